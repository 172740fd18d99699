// y = a + b + bias of [pixels, C], channels side by side; without a where that is null. y may be a or b.

template <int N>
__device__ inline void add_up(const number* a, const number* b, const number* bias, number* y, unsigned pixels,
                              unsigned channels) {
  const unsigned packs = channels / N;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < pixels * packs; i += gridDim.x * blockDim.x) {
    const Pack<N> offset = read_pack<N>(bias + i % packs * N);
    const int64 at = static_cast<int64>(i) * N;
    Pack<N> sum = read_pack<N>(b + at);
    Pack<N> other = {};
    if (a != nullptr) other = read_pack<N>(a + at);
    for (int k = 0; k < N; ++k) {
      // The smaller two first, as the operators in whose place this stands.
      const float biased = read(sum.values[k]) + read(offset.values[k]);
      sum.values[k] = written(a == nullptr ? biased : read(other.values[k]) + biased);
    }
    write_pack(y + at, sum);
  }
}

// For channels that are a multiple of WIDTH.
extern "C" __global__ void add_packs(const number* a, const number* b, const number* bias, number* y, unsigned pixels,
                                     unsigned channels) {
  add_up<WIDTH>(a, b, bias, y, pixels, channels);
}

extern "C" __global__ void add(const number* a, const number* b, const number* bias, number* y, unsigned pixels,
                               unsigned channels) {
  add_up<1>(a, b, bias, y, pixels, channels);
}
