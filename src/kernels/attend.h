// What the shim calls in attend.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// Which map is pooled: the scaled products themselves, their softmax, or the part of a softmax over more keys than these.
enum class Map : int { scores = 0, probabilities = 1, part = 2 };

// Attention of q [B, H, n, d] to k and v [B, H, m, d] on the CPU, in float32. `outputs` receives, of the map A of every
// head, the mean over rows of 1/lambda log(1/m sum_j exp(lambda A_ij)) in float64 and of sum_j |A_ij| softmax_j(lambda A_i),
// both [B, H], over the tokens `ranges` [B, 2] (first, number) or all; and, unless v is null, the output [B, H, n, d] in v's type.
// `lse` [B, H, n], the log-sum-exp of every row's scores over all keys, is for the part of a softmax alone, which has no
// output. False, and nothing done, where it cannot be computed this way.
bool attend_pooled(const at::Tensor& q, const at::Tensor& k, const at::Tensor* v, const at::Tensor* lse, double scale,
                   Map map, double lambda, const int64_t* ranges, at::Tensor* outputs);
