// GEGLU (Shazeer 2020): wide [rows, 2 width] to a * gelu(b) [rows, width], a the first half of a row and b the second.

extern "C" __global__ void geglu(const number* wide, number* narrow, int64 rows, int64 width) {
  const int64 step = static_cast<int64>(gridDim.x) * blockDim.x;
  for (int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * width; i += step) {
    const int64 row = i / width, column = i - row * width;
    const float a = read(wide[row * 2 * width + column]);
    const float b = read(wide[row * 2 * width + width + column]);
    const float gelu = 0.5f * b * (1.0f + erff(b * 0.70710678118654752f));
    // Rounded in between, as two operators would.
    narrow[i] = written(a * read(written(gelu)));
  }
}
