// GEGLU (Shazeer 2020): wide [rows, 2 width] to a * gelu(b) [rows, width], a the first half of a row and b the second.

template <int N>
__device__ inline void gate(const number* wide, number* narrow, unsigned rows, unsigned width) {
  const unsigned packs = width / N;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < rows * packs; i += gridDim.x * blockDim.x) {
    const unsigned row = i / packs, column = (i - row * packs) * N;
    const number* from = wide + static_cast<int64>(row) * 2 * width + column;
    const Pack<N> a = read_pack<N>(from), b = read_pack<N>(from + width);
    Pack<N> gated;
    for (int k = 0; k < N; ++k) {
      const float x = read(b.values[k]);
      const float gelu = 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
      // Rounded in between, as two operators would.
      gated.values[k] = written(read(a.values[k]) * read(written(gelu)));
    }
    write_pack(narrow + static_cast<int64>(row) * width + column, gated);
  }
}

// For widths that are a multiple of WIDTH.
extern "C" __global__ void geglu_packs(const number* wide, number* narrow, unsigned rows, unsigned width) {
  gate<WIDTH>(wide, narrow, rows, width);
}

extern "C" __global__ void geglu(const number* wide, number* narrow, unsigned rows, unsigned width) {
  gate<1>(wide, narrow, rows, width);
}
