// What all kernels share. The same files are compiled by NVRTC for a device and, in the tests, as C++ with threads that
// take turns; so they include nothing, and TYPE, the type of the tensors, is defined outside: 0 float, 1 half, 2 bfloat16.

typedef long long int64;

#if TYPE == 0

typedef float number;
__device__ inline float read(number x) { return x; }
__device__ inline number written(float x) { return x; }

#else

struct number {
  unsigned short bits;
};

#if TYPE == 2

__device__ inline float read(number x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ inline number written(float x) {
  const unsigned bits = __float_as_uint(x);
  // To the nearest, of two as near the even one; what is not a number stays so.
  const unsigned rounded = x == x ? bits + 0x7fff + ((bits >> 16) & 1) : bits | 0x400000;
  return {static_cast<unsigned short>(rounded >> 16)};
}

#else

__device__ inline float read(number x) { return half_to_float(x.bits); }
__device__ inline number written(float x) { return {float_to_half(x)}; }

#endif
#endif

// As many numbers as a thread reads at once, 16 bytes.
#if TYPE == 0
#define WIDTH 4
#else
#define WIDTH 8
#endif

// Numbers that lie side by side and are read and written together.
template <int N>
struct alignas(N * sizeof(number)) Pack {
  number values[N];
};

template <int N>
__device__ inline Pack<N> read_pack(const number* from) {
  return *reinterpret_cast<const Pack<N>*>(from);
}

template <int N>
__device__ inline void write_pack(number* to, const Pack<N>& pack) {
  *reinterpret_cast<Pack<N>*>(to) = pack;
}

// Over the 32 threads of a warp, for each of them.
__device__ inline float warp_sum(float x) {
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

__device__ inline double warp_sum(double x) {
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

__device__ inline float warp_max(float x) {
  for (int lane = 16; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}

// exp(y) - 1 - y, which has all its digits where y is small; e is exp(y).
__device__ inline float curve(float y, float e) {
  if (fabsf(y) >= 0.5f) return e - 1.0f - y;
  float p = 1.0f / 40320.0f;
  p = p * y + 1.0f / 5040.0f;
  p = p * y + 1.0f / 720.0f;
  p = p * y + 1.0f / 120.0f;
  p = p * y + 1.0f / 24.0f;
  p = p * y + 1.0f / 6.0f;
  p = p * y + 0.5f;
  return p * y * y;
}

// What a row of m numbers x comes to: 1/lambda log(1/m sum_j exp(lambda x_j)) in float64. Where they differ by less than
// 1/lambda, that is their mean plus a little, and what would be rounded away beside the mean is summed apart.
struct Level {
  float from;
  bool flat;
};

__device__ inline Level level_of(float top, float mean, float lambda) {
  const bool flat = lambda * (top - mean) <= 1.0f;
  return {flat ? mean : top, flat};
}

// Of numbers that add up to 1, the sum of what they are above `from`, about 1/m.
__device__ inline float rest_of_one(float from, float m) { return fmaf(-from, m, 1.0f); }

// From the sums over the row of exp(y), of the distances x - from, and of curve(y), where y = lambda (x - from).
__device__ inline double level(Level at, float total, float rest, float curved, float m, float lambda) {
  const float above = at.flat ? log1pf((lambda * rest + curved) / m) : logf(total / m);
  return static_cast<double>(at.from) + static_cast<double>(above / lambda);
}
