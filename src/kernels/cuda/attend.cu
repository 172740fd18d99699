// Attention to a text, whose keys fit in one tile: scores by tensor cores, their softmax, the output, and what Eq. 4 and
// Eq. 7 need of the map, in one pass that writes no map. A warp takes 16 rows and all tokens; the products' layout is that
// of mma.m16n8k16 (PTX manual): of a row of scores, four threads side by side hold two tokens in eight each. DEPTH, the
// width of a head up to a multiple of 16, is defined outside; what is missing to it is zeros. For half precision.

#define TOKENS 80
#define TILES (TOKENS / 8)
#define WARPS 4
// Rows in shared memory are longer by 16 bytes, so that threads side by side read from different banks.
#define KEY_ROW (DEPTH + 8)
#define VALUE_ROW (TOKENS + 8)

#define OF_SCORES 0
#define OF_PROBABILITIES 1
#define OF_COSINES 2

__device__ inline unsigned read_pair(const number* from) { return *reinterpret_cast<const unsigned*>(from); }

__device__ inline unsigned pair_of(float x, float y) {
  return written(x).bits | static_cast<unsigned>(written(y).bits) << 16;
}

__device__ inline float square_of(unsigned pair) {
  const float x = read(number{static_cast<unsigned short>(pair)});
  const float y = read(number{static_cast<unsigned short>(pair >> 16)});
  return x * x + y * y;
}

// Over the four threads that share a row, for each of them.
__device__ inline float quad_sum(float x) {
  for (int lane = 2; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

__device__ inline float quad_max(float x) {
  for (int lane = 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}

// A thread's part of a row: two numbers of every tile.
struct Line {
  float values[2 * TILES];
};

__device__ inline int token_of(int i, int lane) { return i / 2 * 8 + lane % 4 * 2 + i % 2; }

struct Pooled {
  double lse;
  float strength;
};

// Of the m tokens from first to last 1/lambda log(1/m sum_j exp(lambda x_j)) and sum_j |x_j| softmax_j(lambda x). Where it
// is `known` that they add up to 1, that is known better than they tell.
__device__ inline Pooled pool(const Line& line, int lane, int first, int last, float lambda, bool known) {
  float top = -INFINITY, sum = 0;
  for (int i = 0; i < 2 * TILES; ++i) {
    const int j = token_of(i, lane);
    if (j < first || j >= last) continue;
    top = fmaxf(top, line.values[i]);
    sum += line.values[i];
  }
  top = quad_max(top);
  const float m = static_cast<float>(last - first);
  const Level at = level_of(top, (known ? 1.0f : quad_sum(sum)) / m, lambda);
  float total = 0, weighted = 0, rest = 0, curved = 0;
  for (int i = 0; i < 2 * TILES; ++i) {
    const int j = token_of(i, lane);
    if (j < first || j >= last) continue;
    const float distance = line.values[i] - at.from, y = lambda * distance;
    const float e = expf(y);
    total += e;
    weighted += e * fabsf(line.values[i]);
    rest += distance;
    curved += curve(y, e);
  }
  total = quad_sum(total);
  weighted = quad_sum(weighted);
  rest = known ? rest_of_one(at.from, m) : quad_sum(rest);
  return {level(at, total, rest, quad_sum(curved), m, lambda), weighted / total};
}

__device__ inline void softmax(Line& line) {
  float top = -INFINITY;
  for (int i = 0; i < 2 * TILES; ++i) top = fmaxf(top, line.values[i]);
  top = quad_max(top);
  float total = 0;
  for (int i = 0; i < 2 * TILES; ++i) {
    line.values[i] = expf(line.values[i] - top);
    total += line.values[i];
  }
  total = quad_sum(total);
  for (int i = 0; i < 2 * TILES; ++i) line.values[i] /= total;
}

// q [B, H, rows, depth], k and v [B, H, tokens, depth] by their strides, the last being 1; output [B, rows, H, depth] or
// null; lse and strength [B, H, blocks], the sums over each block's rows; ranges [B, 2] (first token, number) or null for
// all. What is pooled is the scores, their softmax, or the cosines of queries and keys.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    attend(const number* q, const number* k, const number* v, number* output, double* lse, float* strength,
           const int64* ranges, int64 q_sample, int64 q_head, int64 q_row, int64 k_sample, int64 k_head, int64 k_row,
           int64 v_sample, int64 v_head, int64 v_row, int heads, int rows, int tokens, int depth, int rows_of_block,
           float scale, float lambda, int of) {
  __shared__ __align__(16) number keys[TOKENS * KEY_ROW];
  __shared__ __align__(16) number values[DEPTH * VALUE_ROW];
  __shared__ float of_keys[TOKENS];
  __shared__ double lse_sums[WARPS];
  __shared__ float strength_sums[WARPS];
  const int sample = blockIdx.y / heads, head = blockIdx.y % heads;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  const number* own_k = k + sample * k_sample + head * k_head;
  const number* own_v = v + sample * v_sample + head * v_head;
  for (int i = threadIdx.x; i < TOKENS * (DEPTH / 8); i += blockDim.x) {
    const int token = i / (DEPTH / 8), c = i % (DEPTH / 8) * 8;
    const bool there = token < tokens && c < depth;
    Pack<8> key = {}, value = {};
    if (there) key = read_pack<8>(own_k + token * k_row + c);
    if (there && output != nullptr) value = read_pack<8>(own_v + token * v_row + c);
    write_pack(keys + token * KEY_ROW + c, key);
    for (int n = 0; n < 8; ++n) values[(c + n) * VALUE_ROW + token] = value.values[n];
  }
  __syncthreads();
  if (of == OF_COSINES) {
    for (int token = threadIdx.x; token < TOKENS; token += blockDim.x) {
      float square = 0;
      for (int c = 0; c < DEPTH; c += 2) square += square_of(read_pair(keys + token * KEY_ROW + c));
      of_keys[token] = 1.0f / sqrtf(fmaxf(square, 1e-24f));
    }
    __syncthreads();
  }

  int first = 0, last = tokens;
  if (ranges != nullptr) {
    first = static_cast<int>(ranges[2 * sample]);
    last = first + static_cast<int>(ranges[2 * sample + 1]);
  }
  const number* own_q = q + sample * q_sample + head * q_head;
  const int quad = lane / 4, pair = lane % 4 * 2;
  const int end = min(rows, static_cast<int>(blockIdx.x + 1) * rows_of_block);
  double lse_sum = 0;
  float strength_sum = 0;
  const bool one = of == OF_PROBABILITIES && ranges == nullptr;
  for (int base = static_cast<int>(blockIdx.x) * rows_of_block + 16 * warp; base < end; base += 16 * WARPS) {
    // A thread has a part of two rows.
    const int own[2] = {base + quad, base + quad + 8};
    float scores[TILES][4] = {};
    float squares[2] = {};
#pragma unroll
    for (int c = 0; c < DEPTH; c += 16) {
      unsigned a[4];
      for (int i = 0; i < 4; ++i) {
        const int row = own[i % 2], at = c + pair + i / 2 * 8;
        a[i] = row < end && at < depth ? read_pair(own_q + row * q_row + at) : 0;
        if (of == OF_COSINES) squares[i % 2] += square_of(a[i]);
      }
#pragma unroll
      for (int t = 0; t < TILES; ++t) {
        const number* b = keys + (8 * t + quad) * KEY_ROW + c + pair;
        multiply<TYPE>(scores[t], a, read_pair(b), read_pair(b + 8));
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      Line line;
      Pooled pooled = {};
      if (of == OF_COSINES) {
        const float of_row = 1.0f / sqrtf(fmaxf(quad_sum(squares[h]), 1e-24f));
        for (int i = 0; i < 2 * TILES; ++i) {
          line.values[i] = scores[i / 2][2 * h + i % 2] * of_row * of_keys[token_of(i, lane)];
        }
        pooled = pool(line, lane, first, last, lambda, false);
      }
      for (int i = 0; i < 2 * TILES; ++i) {
        line.values[i] = token_of(i, lane) < tokens ? scores[i / 2][2 * h + i % 2] * scale : -INFINITY;
      }
      if (of == OF_SCORES) pooled = pool(line, lane, first, last, lambda, false);
      if (of == OF_PROBABILITIES || output != nullptr) softmax(line);
      if (of == OF_PROBABILITIES) pooled = pool(line, lane, first, last, lambda, one);
      for (int i = 0; i < 2 * TILES; ++i) scores[i / 2][2 * h + i % 2] = line.values[i];
      if (own[h] < end && lane % 4 == 0) {
        lse_sum += pooled.lse;
        strength_sum += pooled.strength;
      }
    }
    if (output == nullptr) continue;
    float mixed[DEPTH / 8][4] = {};
#pragma unroll
    for (int t = 0; t < TILES; t += 2) {
      unsigned a[4];
      for (int i = 0; i < 4; ++i) {
        const float* two = scores[t + i / 2] + 2 * (i % 2);
        a[i] = pair_of(two[0], two[1]);
      }
#pragma unroll
      for (int c = 0; c < DEPTH / 8; ++c) {
        const number* b = values + (8 * c + quad) * VALUE_ROW + 8 * t + pair;
        multiply<TYPE>(mixed[c], a, read_pair(b), read_pair(b + 8));
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (own[h] >= end) continue;
      number* to = output + ((static_cast<int64>(sample) * rows + own[h]) * heads + head) * depth + pair;
      for (int c = 0; c < DEPTH / 8; ++c) {
        if (8 * c < depth) {
          *reinterpret_cast<unsigned*>(to + 8 * c) = pair_of(mixed[c][2 * h], mixed[c][2 * h + 1]);
        }
      }
    }
  }
  lse_sum = warp_sum(lse_sum);
  strength_sum = warp_sum(strength_sum);
  if (lane == 0) {
    lse_sums[warp] = lse_sum;
    strength_sums[warp] = strength_sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    lse_sum = 0;
    strength_sum = 0;
    for (int i = 0; i < WARPS; ++i) {
      lse_sum += lse_sums[i];
      strength_sum += strength_sums[i];
    }
    const int64 at = static_cast<int64>(blockIdx.y) * gridDim.x + blockIdx.x;
    lse[at] = lse_sum;
    strength[at] = strength_sum;
  }
}
