// Rows of attention scores become what Eq. 4 and Eq. 7 need of them, and the probabilities that the network goes on
// with, in one pass: a warp holds a row in its registers. VALUES, the numbers of a thread, is defined outside.

struct Row {
  float values[VALUES];
};

// 1/lambda log sum_j exp(lambda x_j) and sum_j |x_j| softmax_j(lambda x) over the tokens from first to last.
__device__ inline void pool(const Row& row, int lane, int first, int last, float lambda, float* lse, float* strength) {
  float top = -INFINITY;
  for (int i = 0; i < VALUES; ++i) {
    const int j = lane + 32 * i;
    if (j >= first && j < last) top = fmaxf(top, row.values[i]);
  }
  top = warp_max(top);
  float total = 0, weighted = 0;
  for (int i = 0; i < VALUES; ++i) {
    const int j = lane + 32 * i;
    if (j < first || j >= last) continue;
    const float e = expf(lambda * (row.values[i] - top));
    total += e;
    weighted += e * fabsf(row.values[i]);
  }
  total = warp_sum(total);
  weighted = warp_sum(weighted);
  if (lane != 0) return;
  *lse = top + logf(total) / lambda;
  *strength = weighted / total;
}

// products [rows, tokens], of queries with keys, which times scale are the scores; probabilities of the same shape or
// null; lse and strength [rows]; ranges [samples, 2] (first token, number) or null for all. What is pooled is the scores,
// their softmax, or the products times of_rows [rows] and of_columns [heads, tokens].
extern "C" __global__ void pool_rows(const float* products, number* probabilities, float* lse, float* strength,
                                     const int64* ranges, const float* of_rows, const float* of_columns, int64 rows,
                                     int64 rows_of_sample, int64 rows_of_head, int tokens, float scale, float lambda,
                                     int of_probabilities) {
  const int lane = threadIdx.x % 32;
  const int64 at = static_cast<int64>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (at >= rows) return;
  int first = 0, last = tokens;
  if (ranges != nullptr) {
    first = static_cast<int>(ranges[2 * (at / rows_of_sample)]);
    last = first + static_cast<int>(ranges[2 * (at / rows_of_sample) + 1]);
  }
  Row row;
  for (int i = 0; i < VALUES; ++i) {
    const int j = lane + 32 * i;
    row.values[i] = j < tokens ? products[at * tokens + j] * scale : -INFINITY;
  }
  if (of_rows != nullptr) {
    const float* own = of_columns + at / rows_of_head * tokens;
    for (int i = 0; i < VALUES; ++i) {
      const int j = lane + 32 * i;
      if (j < tokens) row.values[i] *= of_rows[at] * own[j];
    }
  }
  if (!of_probabilities) pool(row, lane, first, last, lambda, lse + at, strength + at);
  if (!of_probabilities && probabilities == nullptr) return;
  float top = -INFINITY;
  for (int i = 0; i < VALUES; ++i) top = fmaxf(top, row.values[i]);
  top = warp_max(top);
  float total = 0;
  for (int i = 0; i < VALUES; ++i) {
    row.values[i] = expf(row.values[i] - top);
    total += row.values[i];
  }
  total = warp_sum(total);
  for (int i = 0; i < VALUES; ++i) {
    const int j = lane + 32 * i;
    row.values[i] /= total;
    if (probabilities != nullptr && j < tokens) probabilities[at * tokens + j] = written(row.values[i]);
  }
  if (of_probabilities) pool(row, lane, first, last, lambda, lse + at, strength + at);
}
