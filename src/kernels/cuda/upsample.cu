// Every pixel four times: x [samples, height, width, C], channels side by side, to y [samples, 2 height, 2 width, C]; packs,
// C / WIDTH.

extern "C" __global__ void upsample(const number* x, number* y, unsigned samples, unsigned height, unsigned width,
                                    unsigned packs) {
  const unsigned total = samples * height * width * packs;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += gridDim.x * blockDim.x) {
    const unsigned pixel = i / packs, pack = i - pixel * packs;
    const unsigned line = pixel / width, column = pixel - line * width;
    const Pack<WIDTH> own = read_pack<WIDTH>(x + static_cast<int64>(i) * WIDTH);
    // Lines of y are twice as many in every sample too, so samples need not be told apart.
    const int64 first = (static_cast<int64>(line) * 4 * width + 2 * column) * packs + pack;
    const int64 step = static_cast<int64>(2) * width * packs;
    write_pack(y + first * WIDTH, own);
    write_pack(y + (first + packs) * WIDTH, own);
    write_pack(y + (first + step) * WIDTH, own);
    write_pack(y + (first + step + packs) * WIDTH, own);
  }
}
