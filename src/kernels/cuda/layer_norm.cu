// Normalisation over the last axis, with a sum before it: y = weight (s - mean) / sqrt(variance + eps) + bias of s = a + b,
// all [rows, width], or of a alone where b is null. The sum is kept where there is room for it. A warp takes a row, and its
// threads packs of WIDTH numbers; PACKS, how many of them each has at most, is defined outside.

extern "C" __global__ void layer_norm(const number* a, const number* b, number* sum, const number* weight,
                                      const number* bias, number* y, unsigned rows, unsigned width, float eps) {
  const unsigned lane = threadIdx.x % 32, packs = width / WIDTH;
  const int64 row = static_cast<int64>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  Pack<WIDTH> own[PACKS];
  float total = 0;
  for (int i = 0; i < PACKS; ++i) {
    const unsigned pack = lane + 32 * i;
    if (pack >= packs) continue;
    const int64 at = row * width + pack * WIDTH;
    own[i] = read_pack<WIDTH>(a + at);
    if (b != nullptr) {
      const Pack<WIDTH> other = read_pack<WIDTH>(b + at);
      // Rounded as the sum that others go on with.
      for (int k = 0; k < WIDTH; ++k) own[i].values[k] = written(read(own[i].values[k]) + read(other.values[k]));
    }
    if (sum != nullptr) write_pack(sum + at, own[i]);
    for (int k = 0; k < WIDTH; ++k) total += read(own[i].values[k]);
  }
  const float mean = warp_sum(total) / width;
  float square = 0;
  for (int i = 0; i < PACKS; ++i) {
    if (lane + 32 * i >= packs) continue;
    for (int k = 0; k < WIDTH; ++k) {
      const float d = read(own[i].values[k]) - mean;
      square += d * d;
    }
  }
  const float scale = 1.0f / sqrtf(warp_sum(square) / width + eps);
  for (int i = 0; i < PACKS; ++i) {
    const unsigned pack = lane + 32 * i;
    if (pack >= packs) continue;
    const Pack<WIDTH> factors = read_pack<WIDTH>(weight + pack * WIDTH), shifts = read_pack<WIDTH>(bias + pack * WIDTH);
    Pack<WIDTH> normal;
    for (int k = 0; k < WIDTH; ++k) {
      const float z = (read(own[i].values[k]) - mean) * scale;
      normal.values[k] = written(z * read(factors.values[k]) + read(shifts.values[k]));
    }
    write_pack(y + row * width + pack * WIDTH, normal);
  }
}
