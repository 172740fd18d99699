// The kernels as functions that Python calls; the first three arguments are the grid.

#include "host.h"

#include "prelude.cuh"
#include "add.cu"
#include "geglu.cu"
#include "group_norm.cu"
#include "layer_norm.cu"
#include "upsample.cu"
// Names that both have.
namespace rows {
#include "pool.cu"
}
#if TYPE != 0
namespace tile {
#include "attend.cu"
}
#endif

// What is said of a kernel here: its name, and its own arguments with and without their types.
#define RUN(name, parameters, arguments)                                                  \
  void run_##name(unsigned x, unsigned y, unsigned threads, UNPACK parameters) {          \
    host::run(x, y, threads, [=] { name arguments; });                                    \
  }
#define UNPACK(...) __VA_ARGS__

using rows::pool_rows;

extern "C" {

RUN(pool_rows,
    (const float* products, number* probabilities, double* lse, float* strength, const int64* ranges,
     const float* of_rows, const float* of_columns, const float* sums, int64 count, int64 rows_of_sample,
     int64 rows_of_head, int tokens, float scale, float lambda, int of_probabilities),
    (products, probabilities, lse, strength, ranges, of_rows, of_columns, sums, count, rows_of_sample, rows_of_head,
     tokens, scale, lambda, of_probabilities))

#define GEGLU_PARAMETERS (const number* wide, number* narrow, unsigned count, unsigned width)
RUN(geglu, GEGLU_PARAMETERS, (wide, narrow, count, width))
RUN(geglu_packs, GEGLU_PARAMETERS, (wide, narrow, count, width))

#define ADD_PARAMETERS \
  (const number* a, const number* b, const number* bias, number* to, unsigned pixels, unsigned channels)
RUN(add, ADD_PARAMETERS, (a, b, bias, to, pixels, channels))
RUN(add_packs, ADD_PARAMETERS, (a, b, bias, to, pixels, channels))

RUN(layer_norm,
    (const number* a, const number* b, number* sum, const number* weight, const number* bias, number* out,
     unsigned count, unsigned width, float eps),
    (a, b, sum, weight, bias, out, count, width, eps))

RUN(upsample, (const number* in, number* out, unsigned samples, unsigned height, unsigned width, unsigned packs),
    (in, out, samples, height, width, packs))

#define SUMS_PARAMETERS \
  (const number* in, const number* added, float* partial, int64 pixels, int channels, int groups)
RUN(group_sums, SUMS_PARAMETERS, (in, added, partial, pixels, channels, groups))
RUN(group_sums_packs, SUMS_PARAMETERS, (in, added, partial, pixels, channels, groups))

#define APPLY_PARAMETERS                                                                                        \
  (const number* in, const number* added, const float* partial, const number* weight, const number* bias,       \
   number* out, int64 pixels, int channels, int groups, float eps, int silu)
RUN(group_apply, APPLY_PARAMETERS, (in, added, partial, weight, bias, out, pixels, channels, groups, eps, silu))
RUN(group_apply_packs, APPLY_PARAMETERS, (in, added, partial, weight, bias, out, pixels, channels, groups, eps, silu))

#if TYPE != 0
using tile::attend;
RUN(attend,
    (const number* q, const number* k, const number* v, number* output, double* lse, float* strength,
     const int64* ranges, int64 q_sample, int64 q_head, int64 q_row, int64 k_sample, int64 k_head, int64 k_row,
     int64 v_sample, int64 v_head, int64 v_row, int heads, int count, int tokens, int depth, int rows_of_block,
     float scale, float lambda, int of),
    (q, k, v, output, lse, strength, ranges, q_sample, q_head, q_row, k_sample, k_head, k_row, v_sample, v_head, v_row,
     heads, count, tokens, depth, rows_of_block, scale, lambda, of))
#endif
}
