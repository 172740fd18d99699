// Normalisation over groups of channels, with a sum before and SiLU behind it, of x [B, pixels, C]: channels side by
// side. A block takes some pixels of a sample and all its channels, so that reading is in order; the sums of the blocks
// of a sample come together in the second kernel, always in the same order.

// The most channels and groups that there is room for; a block has at most MOST_CHANNELS threads too.
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

// Where there are fewer channels than threads, several pixels are looked at side by side: in so many lanes.
__device__ inline int lanes_of(int channels) {
  const int threads = static_cast<int>(blockDim.x);
  return channels < threads ? threads / channels : 1;
}

// What is added to a channel before: added [B, C], or nothing.
__device__ inline float addend(const number* added, int64 at) { return added == nullptr ? 0.0f : read(added[at]); }

// partial [B, blocks, groups, 2]: sums of d and d² over the block's pixels, where d is the distance to the sample's first
// number of the group: near enough to the mean that nothing is lost when the one is taken from the other.
extern "C" __global__ void group_sums(const number* x, const number* added, float* partial, int64 pixels, int channels,
                                      int groups) {
  __shared__ float sums[MOST_CHANNELS];
  __shared__ float squares[MOST_CHANNELS];
  const int64 sample = blockIdx.y;
  const int size = channels / groups;
  const Part part = part_of(pixels);
  const int lanes = lanes_of(channels);
  const number* own = x + sample * pixels * channels;
  for (int i = threadIdx.x; i < lanes * channels; i += blockDim.x) {
    const int c = i % channels;
    const int head = c / size * size;
    const float offset = addend(added, sample * channels + c);
    const float origin = read(own[head]) + addend(added, sample * channels + head);
    float sum = 0, square = 0;
    for (int64 p = part.first + i / channels; p < part.last; p += lanes) {
      const float d = read(own[p * channels + c]) + offset - origin;
      sum += d;
      square += d * d;
    }
    sums[i] = sum;
    squares[i] = square;
  }
  __syncthreads();
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float sum = 0, square = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      for (int c = g * size; c < (g + 1) * size; ++c) {
        sum += sums[lane * channels + c];
        square += squares[lane * channels + c];
      }
    }
    float* to = partial + ((sample * gridDim.x + blockIdx.x) * groups + g) * 2;
    to[0] = sum;
    to[1] = square;
  }
}

// y = silu(weight (x + added - mean) / sqrt(variance + eps) + bias), without silu if that is not wanted.
extern "C" __global__ void group_apply(const number* x, const number* added, const float* partial, const number* weight,
                                       const number* bias, number* y, int64 pixels, int channels, int groups, float eps,
                                       int silu) {
  __shared__ float means[MOST_GROUPS];
  __shared__ float scales[MOST_GROUPS];
  const int64 sample = blockIdx.y;
  const int size = channels / groups;
  const Part part = part_of(pixels);
  const int64 start = sample * pixels * channels;
  for (int g = threadIdx.x; g < groups; g += blockDim.x) {
    float sum = 0, square = 0;
    for (unsigned block = 0; block < gridDim.x; ++block) {
      const float* from = partial + ((sample * gridDim.x + block) * groups + g) * 2;
      sum += from[0];
      square += from[1];
    }
    const float count = static_cast<float>(pixels * size);
    const float mean = sum / count;
    const int head = g * size;
    means[g] = mean + (read(x[start + head]) + addend(added, sample * channels + head));
    scales[g] = 1.0f / sqrtf(fmaxf(square / count - mean * mean, 0.0f) + eps);
  }
  __syncthreads();
  const int lanes = lanes_of(channels);
  for (int i = threadIdx.x; i < lanes * channels; i += blockDim.x) {
    const int c = i % channels, g = c / size;
    const float scale = scales[g] * read(weight[c]);
    const float shift = read(bias[c]);
    const float offset = addend(added, sample * channels + c);
    for (int64 p = part.first + i / channels; p < part.last; p += lanes) {
      const int64 at = start + p * channels + c;
      // The sum first, as in the other kernel: a group that is all one number becomes exactly 0.
      const float z = (read(x[at]) + offset - means[g]) * scale + shift;
      y[at] = written(silu ? z / (1.0f + expf(-z)) : z);
    }
  }
}
