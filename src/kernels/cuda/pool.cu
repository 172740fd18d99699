// Rows of attention scores become what Eq. 4 and Eq. 7 need of them, and the probabilities that the network goes on
// with, in one pass: a warp holds a row in its registers. VALUES, the numbers of a thread, is defined outside.

struct Row {
  float values[VALUES];
};

// Of the m tokens from first to last 1/lambda log(1/m sum_j exp(lambda x_j)) and sum_j |x_j| softmax_j(lambda x). Where it
// is `known` that they add up to 1, that is known better than they tell.
__device__ inline void pool(const Row& row, int lane, int first, int last, float lambda, bool known, double* lse,
                            float* strength) {
  float top = -INFINITY, sum = 0;
  for (int i = 0; i < VALUES; ++i) {
    const int j = lane + 32 * i;
    if (j < first || j >= last) continue;
    top = fmaxf(top, row.values[i]);
    sum += row.values[i];
  }
  top = warp_max(top);
  const float m = static_cast<float>(last - first);
  const Level at = level_of(top, (known ? 1.0f : warp_sum(sum)) / m, lambda);
  float total = 0, weighted = 0, rest = 0, curved = 0;
  for (int i = 0; i < VALUES; ++i) {
    const int j = lane + 32 * i;
    if (j < first || j >= last) continue;
    const float distance = row.values[i] - at.from, y = lambda * distance;
    const float e = expf(y);
    total += e;
    weighted += e * fabsf(row.values[i]);
    rest += distance;
    curved += curve(y, e);
  }
  total = warp_sum(total);
  weighted = warp_sum(weighted);
  rest = known ? rest_of_one(at.from, m) : warp_sum(rest);
  curved = warp_sum(curved);
  if (lane != 0) return;
  *lse = level(at, total, rest, curved, m, lambda);
  *strength = weighted / total;
}

// products [rows, tokens], of queries with keys, which times scale are the scores; probabilities of the same shape or
// null; lse and strength [rows]; ranges [samples, 2] (first token, number) or null for all. What is pooled is the scores,
// their softmax, the products times of_rows [rows] and of_columns [heads, tokens], or, as probabilities among more tokens
// than these, the exponentials of what the scores are above sums [rows].
extern "C" __global__ void pool_rows(const float* products, number* probabilities, double* lse, float* strength,
                                     const int64* ranges, const float* of_rows, const float* of_columns,
                                     const float* sums, int64 rows, int64 rows_of_sample, int64 rows_of_head, int tokens,
                                     float scale, float lambda, int of_probabilities) {
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
  if (sums != nullptr) {
    for (int i = 0; i < VALUES; ++i) row.values[i] = expf(row.values[i] - sums[at]);
  }
  if (!of_probabilities) pool(row, lane, first, last, lambda, false, lse + at, strength + at);
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
  if (of_probabilities) pool(row, lane, first, last, lambda, ranges == nullptr, lse + at, strength + at);
}
