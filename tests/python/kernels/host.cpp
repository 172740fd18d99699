// The kernels as functions that Python calls; the first three arguments are the grid.

#include "host.h"

#include "prelude.cuh"
#include "geglu.cu"
#include "group_norm.cu"
#include "pool.cu"

extern "C" {

void run_pool_rows(unsigned x, unsigned y, unsigned threads, const float* scores, number* probabilities, float* lse,
                   float* strength, const int64* ranges, int64 rows, int64 rows_of_sample, int tokens, float lambda,
                   int of_probabilities) {
  host::run(x, y, threads, [=] {
    pool_rows(scores, probabilities, lse, strength, ranges, rows, rows_of_sample, tokens, lambda, of_probabilities);
  });
}

void run_geglu(unsigned x, unsigned y, unsigned threads, const number* wide, number* narrow, int64 rows, int64 width) {
  host::run(x, y, threads, [=] { geglu(wide, narrow, rows, width); });
}

void run_group_sums(unsigned x, unsigned y, unsigned threads, const number* in, const number* added, float* partial,
                    int64 pixels, int channels, int groups) {
  host::run(x, y, threads, [=] { group_sums(in, added, partial, pixels, channels, groups); });
}

void run_group_apply(unsigned x, unsigned y, unsigned threads, const number* in, const number* added,
                     const float* partial, const number* weight, const number* bias, number* out, int64 pixels,
                     int channels, int groups, float eps, int silu) {
  host::run(x, y, threads,
            [=] { group_apply(in, added, partial, weight, bias, out, pixels, channels, groups, eps, silu); });
}
}
