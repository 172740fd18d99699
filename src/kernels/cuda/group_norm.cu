// Normalisation over groups of channels, with a sum before and SiLU behind it, of x [B, pixels, C]: channels side by
// side. A block takes some pixels of a sample and all its channels, so that reading is in order; the sums of the blocks
// of a sample come together in the second kernel, always in the same order. A thread takes packs of N channels.

// The most channels and groups that there is room for; threads times N are as many at most.
#define MOST_CHANNELS 4096
#define MOST_GROUPS 128

// The part of a sample's pixels that a block takes.
struct Part {
  int64 first, last;
};

__device__ inline Part part_of(int64 pixels) {
  const int64 size = (pixels + gridDim.x - 1) / gridDim.x;
  const int64 first = blockIdx.x * size, last = first + size;
  return {first < pixels ? first : pixels, last < pixels ? last : pixels};
}

// Where a pixel has fewer packs than there are threads, several pixels are looked at side by side: in so many lanes.
__device__ inline int lanes_of(int packs) {
  const int threads = static_cast<int>(blockDim.x);
  return packs < threads ? threads / packs : 1;
}

// What is added to a channel before: added [B, C], or nothing.
__device__ inline float addend(const number* added, int64 at) { return added == nullptr ? 0.0f : read(added[at]); }

// partial [B, groups, blocks, 2]: sums of d and d² over the block's pixels, where d is the distance to the sample's first
// number of the group: near enough to the mean that nothing is lost when the one is taken from the other.
template <int N>
__device__ inline void sum_up(const number* x, const number* added, float* partial, int64 pixels, int channels,
                              int groups) {
  __shared__ float sums[MOST_CHANNELS];
  __shared__ float squares[MOST_CHANNELS];
  const int64 sample = blockIdx.y;
  const int size = channels / groups, packs = channels / N;
  const Part part = part_of(pixels);
  const int lanes = lanes_of(packs);
  const number* own = x + sample * pixels * channels;
  for (int i = threadIdx.x; i < lanes * packs; i += blockDim.x) {
    const int c = i % packs * N;
    float offset[N], origin[N], sum[N], square[N];
    int head = c / size * size;
    float first = read(own[head]) + addend(added, sample * channels + head);
    for (int k = 0; k < N; ++k) {
      if (c + k == head + size) {
        head += size;
        first = read(own[head]) + addend(added, sample * channels + head);
      }
      offset[k] = addend(added, sample * channels + c + k);
      origin[k] = first;
      sum[k] = square[k] = 0;
    }
#pragma unroll 4
    for (int64 p = part.first + i / packs; p < part.last; p += lanes) {
      const Pack<N> pack = read_pack<N>(own + p * channels + c);
      for (int k = 0; k < N; ++k) {
        const float d = read(pack.values[k]) + offset[k] - origin[k];
        sum[k] += d;
        square[k] += d * d;
      }
    }
    for (int k = 0; k < N; ++k) {
      sums[i * N + k] = sum[k];
      squares[i * N + k] = square[k];
    }
  }
  __syncthreads();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int g = warp; g < groups; g += blockDim.x / 32) {
    float sum = 0, square = 0;
    for (int i = lane; i < lanes * size; i += 32) {
      const int at = i / size * channels + g * size + i % size;
      sum += sums[at];
      square += squares[at];
    }
    sum = warp_sum(sum);
    square = warp_sum(square);
    if (lane != 0) continue;
    float* to = partial + ((sample * groups + g) * gridDim.x + blockIdx.x) * 2;
    to[0] = sum;
    to[1] = square;
  }
}

// y = silu(weight (x + added - mean) / sqrt(variance + eps) + bias), without silu if that is not wanted.
template <int N>
__device__ inline void normalise(const number* x, const number* added, const float* partial, const number* weight,
                                 const number* bias, number* y, int64 pixels, int channels, int groups, float eps,
                                 int silu) {
  __shared__ float means[MOST_GROUPS];
  __shared__ float scales[MOST_GROUPS];
  const int64 sample = blockIdx.y;
  const int size = channels / groups, packs = channels / N;
  const Part part = part_of(pixels);
  const int64 start = sample * pixels * channels;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int g = warp; g < groups; g += blockDim.x / 32) {
    float sum = 0, square = 0;
    for (unsigned block = lane; block < gridDim.x; block += 32) {
      const float* from = partial + ((sample * groups + g) * gridDim.x + block) * 2;
      sum += from[0];
      square += from[1];
    }
    sum = warp_sum(sum);
    square = warp_sum(square);
    if (lane != 0) continue;
    const float count = static_cast<float>(pixels * size);
    const float mean = sum / count;
    const int head = g * size;
    means[g] = mean + (read(x[start + head]) + addend(added, sample * channels + head));
    scales[g] = 1.0f / sqrtf(fmaxf(square / count - mean * mean, 0.0f) + eps);
  }
  __syncthreads();
  const int lanes = lanes_of(packs);
  for (int i = threadIdx.x; i < lanes * packs; i += blockDim.x) {
    const int c = i % packs * N;
    float offset[N], mean[N], scale[N], shift[N];
    int g = c / size, end = (g + 1) * size;
    for (int k = 0; k < N; ++k) {
      if (c + k == end) {
        ++g;
        end += size;
      }
      offset[k] = addend(added, sample * channels + c + k);
      mean[k] = means[g];
      scale[k] = scales[g] * read(weight[c + k]);
      shift[k] = read(bias[c + k]);
    }
#pragma unroll 2
    for (int64 p = part.first + i / packs; p < part.last; p += lanes) {
      const int64 at = start + p * channels + c;
      Pack<N> pack = read_pack<N>(x + at);
      for (int k = 0; k < N; ++k) {
        // The sum first, as in the other kernel: a group that is all one number becomes exactly 0.
        const float z = (read(pack.values[k]) + offset[k] - mean[k]) * scale[k] + shift[k];
        pack.values[k] = written(silu ? fast_divide(z, 1.0f + fast_exp(-z)) : z);
      }
      write_pack(y + at, pack);
    }
  }
}

// For channels that are a multiple of WIDTH.
extern "C" __global__ void group_sums_packs(const number* x, const number* added, float* partial, int64 pixels,
                                            int channels, int groups) {
  sum_up<WIDTH>(x, added, partial, pixels, channels, groups);
}

extern "C" __global__ void group_sums(const number* x, const number* added, float* partial, int64 pixels, int channels,
                                      int groups) {
  sum_up<1>(x, added, partial, pixels, channels, groups);
}

extern "C" __global__ void group_apply_packs(const number* x, const number* added, const float* partial,
                                             const number* weight, const number* bias, number* y, int64 pixels,
                                             int channels, int groups, float eps, int silu) {
  normalise<WIDTH>(x, added, partial, weight, bias, y, pixels, channels, groups, eps, silu);
}

extern "C" __global__ void group_apply(const number* x, const number* added, const float* partial,
                                       const number* weight, const number* bias, number* y, int64 pixels, int channels,
                                       int groups, float eps, int silu) {
  normalise<1>(x, added, partial, weight, bias, y, pixels, channels, groups, eps, silu);
}
