// Cross-attention on the CPU that pools its map while a part of it is in the cache: Eq. 4 and the strength of Eq. 7 of
// every head, and what the network goes on with, without ever holding the map.

#include "attend.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "teams.h"

// The loops below are plain C++ that the compiler makes vectors of, once for each of these; the loader picks one.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define DISCFFUSION_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DISCFFUSION_CLONES
#endif
// A helper takes part in that only inside of its caller.
#define DISCFFUSION_INLINE __attribute__((always_inline)) inline

namespace {

// Text tokens that a row may have; Stable Diffusion has 77.
constexpr int64_t most_tokens = 512;
// Rows are filled up to whole vectors of the widest kind,
constexpr int64_t lanes = 16;
// with what is so far below every score that its exponential is 0, and yet finite.
constexpr float nothing = -1.0e30f;
// Rows that are computed at a time: their scores stay in the second-level cache.
constexpr int64_t block = 256;

int64_t padded(int64_t tokens) { return (tokens + lanes - 1) / lanes * lanes; }

// exp(x) for x <= 1, to about one unit in the last place, 0 below -87, where normal numbers end; and exp(x) - 1 - x, which
// has all its digits where x is small.
struct Exponential {
  float whole, curved;
};

DISCFFUSION_INLINE Exponential exponential(float x) {
  const float y = std::max(x, -87.0f);
  constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  const float n = (y * 1.44269504f + round) - round;
  // log 2 in two parts, the first of which has few enough bits for an exact product.
  const float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float q = p * r * r;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const float curved = q * scale + ((scale - 1.0f) * (1.0f + r) - (y - r));
  return {x < -87.0f ? 0.0f : (q + r + 1.0f) * scale, x < -87.0f ? -1.0f - x : curved};
}

DISCFFUSION_INLINE float largest(const float* x, int64_t count) {
  float top = x[0];
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < count; ++j) top = std::max(top, x[j]);
  return top;
}

// Of one row of m numbers: 1/lambda log(1/m sum_j exp(lambda x_j)), and sum_j |x_j| softmax_j(lambda x).
struct Sums {
  double lse = 0, strength = 0;
};

// Of `count` numbers and what fills them up to `width`. Where they differ by less than 1/lambda, the first is their mean
// plus a little, and what would be rounded away beside the mean is summed apart. `sum` is the sum of all, if it is known
// better than they tell.
DISCFFUSION_INLINE void pool(const float* x, int64_t width, int64_t count, float lambda, const double* sum, Sums& sums) {
  const auto filler = [](float value) __attribute__((always_inline)) { return value <= 0.5f * nothing; };
  const auto m = static_cast<float>(count);
  float top = x[0], all = 0;
#pragma omp simd reduction(max : top) reduction(+ : all)
  for (int64_t j = 0; j < width; ++j) {
    top = std::max(top, x[j]);
    all += filler(x[j]) ? 0.0f : x[j];
  }
  const float mean = sum == nullptr ? all / m : static_cast<float>(*sum) / m;
  const bool flat = lambda * (top - mean) <= 1.0f;
  const float from = flat ? mean : top;
  float total = 0, weighted = 0, rest = 0, curved = 0;
#pragma omp simd reduction(+ : total, weighted, rest, curved)
  for (int64_t j = 0; j < width; ++j) {
    const float distance = x[j] - from;
    const Exponential e = exponential(lambda * distance);
    total += e.whole;
    weighted += e.whole * std::fabs(x[j]);
    rest += filler(x[j]) ? 0.0f : distance;
    curved += filler(x[j]) ? 0.0f : e.curved;
  }
  const double steep = lambda, number = m;
  if (flat) {
    const double left = sum == nullptr ? rest / number : *sum / number - from;
    sums.lse += from + std::log1p(steep * left + curved / number) / steep;
  } else {
    sums.lse += from + std::log(total / number) / steep;
  }
  sums.strength += weighted / total;
}

// One of two kinds of map, and which of its tokens count.
struct Pooling {
  Map map;
  float lambda;
  int64_t start, count, tokens;
  bool probabilities;  // whether the scores become them
};

// Pools rows of scores [rows, padded(tokens)], whose ends may hold anything; `lse` [rows] for the part of a softmax.
DISCFFUSION_CLONES Sums pool_rows(float* scores, const float* lse, int64_t rows, const Pooling& how) {
  alignas(64) float part[most_tokens];
  const int64_t width = padded(how.tokens), filled = padded(how.count);
  const bool all = how.count == how.tokens;
  Sums sums;
  const auto fill = [](float* from, float* to) {
    for (; from < to; ++from) *from = nothing;
  };
  // Probabilities add up to 1 by more digits than they have.
  constexpr double one = 1;
  const double* sum = all && how.map == Map::probabilities ? &one : nullptr;
  const auto pool_row = [&](float* row) __attribute__((always_inline)) {
    if (all) {
      fill(row + how.tokens, row + width);
      return pool(row, width, how.count, how.lambda, sum, sums);
    }
    std::memcpy(part, row + how.start, how.count * sizeof(float));
    fill(part + how.count, part + filled);
    pool(part, filled, how.count, how.lambda, sum, sums);
  };
  for (int64_t i = 0; i < rows; ++i) {
    float* row = scores + i * width;
    if (how.map == Map::part) {
      const float from = lse[i];
#pragma omp simd
      for (int64_t j = 0; j < how.tokens; ++j) row[j] = exponential(row[j] - from).whole;
      pool_row(row);
      continue;
    }
    const bool at_once = how.map == Map::scores && all && how.lambda == 1 && how.probabilities;
    if (how.map == Map::scores && !at_once) pool_row(row);
    if (!how.probabilities) continue;
    fill(row + how.tokens, row + width);
    const float top = largest(row, width);
    float total = 0, weighted = 0;
#pragma omp simd reduction(+ : total, weighted)
    for (int64_t j = 0; j < width; ++j) {
      const float e = exponential(row[j] - top).whole;
      weighted += e * std::fabs(row[j]);
      total += e;
      row[j] = e;
    }
    if (at_once) {
      sums.lse += top + std::log(total / static_cast<double>(how.tokens));
      sums.strength += weighted / total;
    }
    const float share = 1 / total;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) row[j] *= share;
    if (how.map == Map::probabilities) pool_row(row);
  }
  return sums;
}

// BLAS, column-major. Its integers have 32 or 64 bits; small ones read the same from 64 on a little-endian machine.
using Sgemm = void (*)(const char*, const char*, const int64_t* m, const int64_t* n, const int64_t* k,
                       const float* alpha, const float* a, const int64_t* lda, const float* b, const int64_t* ldb,
                       const float* beta, float* c, const int64_t* ldc);
Sgemm sgemm() {
  static const auto found = reinterpret_cast<Sgemm>(brought("sgemm_"));
  return found;
}

// A matrix of every sample and head, [B, H, rows, d] with neighbouring columns side by side.
struct Matrices {
  explicit Matrices(const at::Tensor& x) : held(x.to(at::kFloat)) {
    if (held.stride(3) != 1) held = held.contiguous();
    data = held.data_ptr<float>();
  }
  float* of(int64_t sample, int64_t head, int64_t row) const {
    return data + sample * held.stride(0) + head * held.stride(1) + row * held.stride(2);
  }
  // A single row may have any stride; BLAS wants a possible one.
  int64_t leading() const { return std::max(held.stride(2), held.size(3)); }
  at::Tensor held;
  float* data;
};

// The work of one call: every block of rows of every head is one piece.
struct Work {
  Matrices q, k;
  std::unique_ptr<Matrices> v, out;
  at::Tensor lse;  // [B, H, n], or undefined
  float scale;
  Pooling how;
  const int64_t* ranges;
  int64_t heads, rows, blocks, pieces;
  std::vector<Sums> sums;
  std::vector<std::unique_ptr<float[]>> room{};  // for the scores of a block, one for each thread
  std::atomic<int64_t> members{0}, next{0};

  void piece(int64_t index, float* scores) {
    const int64_t sample = index / (heads * blocks), head = index / blocks % heads, first = index % blocks * block;
    const int64_t count = std::min(block, rows - first);
    const int64_t d = q.held.size(3), width = padded(how.tokens);
    const int64_t ldq = q.leading(), ldk = k.leading();
    const float one = 1, zero = 0;
    sgemm()("T", "N", &how.tokens, &count, &d, &scale, k.of(sample, head, 0), &ldk, q.of(sample, head, first), &ldq,
            &zero, scores, &width);
    Pooling own = how;
    if (ranges != nullptr) {
      own.start = ranges[2 * sample];
      own.count = ranges[2 * sample + 1];
    }
    const float* const sum = lse.defined() ? lse.data_ptr<float>() + (sample * heads + head) * rows + first : nullptr;
    sums[index] = pool_rows(scores, sum, count, own);
    if (v == nullptr) return;
    const int64_t ldv = v->leading(), ldo = out->leading(), depth = v->held.size(3);
    sgemm()("N", "N", &depth, &count, &how.tokens, &one, v->of(sample, head, 0), &ldv, scores, &width, &zero,
            out->of(sample, head, first), &ldo);
  }
};

// One of a team's threads.
void take_pieces(void* work_) {
  auto& work = *static_cast<Work*>(work_);
  const int64_t member = work.members.fetch_add(1);
  // A team may have more threads than there are pieces.
  if (member >= static_cast<int64_t>(work.room.size())) return;
  float* const scores = work.room[static_cast<std::size_t>(member)].get();
  for (int64_t index; (index = work.next.fetch_add(1)) < work.pieces;) work.piece(index, scores);
}

void run(Work& work) {
  // Before the team begins: nobody could catch what is thrown in another thread.
  const auto size = static_cast<std::size_t>(std::min(block, work.rows) * padded(work.how.tokens));
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), work.pieces);
  for (int64_t i = 0; i < threads; ++i) work.room.emplace_back(new float[size]);
  run_team(take_pieces, &work);
}

}  // namespace

bool attend_pooled(const at::Tensor& q, const at::Tensor& k, const at::Tensor* v, const at::Tensor* lse, double scale,
                   Map map, double lambda, const int64_t* ranges, at::Tensor* outputs) {
  const int64_t samples = q.size(0), heads = q.size(1), rows = q.size(2), tokens = k.size(2);
  if (tokens > most_tokens || q.numel() == 0 || sgemm() == nullptr) return false;
  const int64_t blocks = (rows + block - 1) / block, pieces = samples * heads * blocks;
  const bool probabilities = v != nullptr || map == Map::probabilities;
  const Pooling how{map, static_cast<float>(lambda), 0, tokens, tokens, probabilities};
  const at::Tensor sums = lse == nullptr ? at::Tensor() : lse->to(at::kFloat).contiguous();
  Work work{Matrices(q), Matrices(k), {}, {}, sums, static_cast<float>(scale), how, ranges, heads, rows, blocks, pieces,
            std::vector<Sums>(static_cast<std::size_t>(pieces))};
  if (v != nullptr) {
    work.v = std::make_unique<Matrices>(*v);
    // As the layer behind it wants the heads: side by side.
    const auto out = at::empty({samples, rows, heads, v->size(3)}, work.v->held.options());
    work.out = std::make_unique<Matrices>(out.transpose(1, 2));
    outputs[2] = work.out->held;
  }
  run(work);
  for (int which = 0; which < 2; ++which) {
    outputs[which] = at::empty({samples, heads}, work.q.held.options().dtype(at::kDouble));
    auto* pooled = outputs[which].data_ptr<double>();
    for (int64_t i = 0; i < samples * heads; ++i) {
      double sum = 0;
      for (int64_t b = i * blocks; b < (i + 1) * blocks; ++b) sum += which == 0 ? work.sums[b].lse : work.sums[b].strength;
      pooled[i] = sum / static_cast<double>(rows);
    }
  }
  outputs[1] = outputs[1].to(at::kFloat);
  if (v != nullptr) outputs[2] = outputs[2].to(v->scalar_type());
  return true;
}
