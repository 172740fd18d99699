// What the shim calls in attend.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// Which map is pooled: the scaled products themselves, or their softmax.
enum class Map : int { scores = 0, probabilities = 1 };

// Attention of q [B, H, n, d] to k and v [B, H, m, d] on the CPU, in float32. `outputs` receives, of the map A of every
// head, the mean over rows of 1/lambda log(1/m sum_j exp(lambda A_ij)) in float64 and of sum_j |A_ij| softmax_j(lambda A_i),
// both [B, H], over the tokens `ranges` [B, 2] (first, number) or all; and, unless v is null, the output [B, H, n, d] in v's type.
// False, and nothing done, where it cannot be computed this way.
bool attend_pooled(const at::Tensor& q, const at::Tensor& k, const at::Tensor* v, double scale, Map map, double lambda,
                   const int64_t* ranges, at::Tensor* outputs);
