// Runs the CUDA sources of src/kernels/cuda as C++: the blocks of a grid one after another, the threads of a block as
// coroutines that take turns at barriers and shuffles. Defined before: TYPE and VALUES, as for the device.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

struct Place {
  unsigned x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

#define __device__
#define __global__
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
// Blocks run one after another, so they can share the memory that threads share.
#define __shared__ static

namespace host {

enum class State { ready, at_barrier, at_shuffle, done };

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(64 << 10);
  State state = State::ready;
  double shown = 0;
  unsigned fragments[6] = {};
};

static ucontext_t scheduler;
static std::vector<Thread> threads;
static unsigned current;
static std::function<void()> kernel;

inline void wait(State state) {
  threads[current].state = state;
  swapcontext(&threads[current].context, &scheduler);
}

inline void body() {
  kernel();
  threads[current].state = State::done;
  swapcontext(&threads[current].context, &scheduler);
}

// Whether all of some threads that are not done wait for each other, so that they may go on.
inline bool met(unsigned first, unsigned last, State state) {
  bool any = false;
  for (unsigned i = first; i < last; ++i) {
    if (threads[i].state == State::done) continue;
    if (threads[i].state != state) return false;
    any = true;
  }
  return any;
}

inline void release(unsigned first, unsigned last) {
  for (unsigned i = first; i < last; ++i) {
    if (threads[i].state != State::done) threads[i].state = State::ready;
  }
}

inline void run_block(unsigned count) {
  threads.resize(count);
  for (unsigned i = 0; i < count; ++i) {
    getcontext(&threads[i].context);
    threads[i].context.uc_stack.ss_sp = threads[i].stack.data();
    threads[i].context.uc_stack.ss_size = threads[i].stack.size();
    threads[i].state = State::ready;
    makecontext(&threads[i].context, body, 0);
  }
  for (;;) {
    bool ran = false;
    // Backwards, so that nothing can rely on the first thread being first.
    for (unsigned i = count; i-- > 0;) {
      if (threads[i].state != State::ready) continue;
      ran = true;
      current = i;
      threadIdx = {i, 0, 0};
      swapcontext(&scheduler, &threads[i].context);
    }
    if (ran) continue;
    if (met(0, count, State::at_barrier)) {
      release(0, count);
      continue;
    }
    bool shuffled = false;
    for (unsigned first = 0; first < count; first += 32) {
      const unsigned last = std::min(first + 32, count);
      if (met(first, last, State::at_shuffle)) {
        release(first, last);
        shuffled = true;
      }
    }
    if (shuffled) continue;
    for (const auto& thread : threads) {
      if (thread.state != State::done) {
        std::fprintf(stderr, "the threads of a block wait for different things\n");
        std::abort();
      }
    }
    return;
  }
}

inline void run(unsigned x, unsigned y, unsigned count, std::function<void()> work) {
  kernel = std::move(work);
  gridDim = {x, y, 1};
  blockDim = {count, 1, 1};
  for (unsigned j = 0; j < y; ++j) {
    for (unsigned i = 0; i < x; ++i) {
      blockIdx = {i, j, 0};
      run_block(count);
    }
  }
}

}  // namespace host

inline void __syncthreads() { host::wait(host::State::at_barrier); }

template <typename Number>
Number __shfl_xor_sync(unsigned mask, Number x, int lane) {
  if (mask != 0xffffffffu) std::abort();
  const unsigned self = host::current;
  host::threads[self].shown = x;
  host::wait(host::State::at_shuffle);
  const auto other = static_cast<Number>(host::threads[self ^ static_cast<unsigned>(lane)].shown);
  // Nobody shows the next number before all have read this one.
  host::wait(host::State::at_shuffle);
  return other;
}

template <typename To, typename From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

using std::min;

inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline float half_to_float(unsigned short bits) { return static_cast<float>(same_bits<_Float16>(bits)); }
inline unsigned short float_to_half(float x) { return same_bits<unsigned short>(static_cast<_Float16>(x)); }

inline float fast_exp(float x) { return std::exp(x); }
inline float fast_divide(float x, float y) { return x / y; }

// One of the two numbers in a fragment.
template <int type>
float in_fragment(unsigned fragment, unsigned which) {
  const unsigned bits = fragment >> 16 * which & 0xffff;
  return type == 1 ? half_to_float(static_cast<unsigned short>(bits)) : __uint_as_float(bits << 16);
}

// c [16, 8] += a [16, 16] b [16, 8], laid out over a warp as the PTX manual has it for mma.m16n8k16.
template <int type>
void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  const unsigned self = host::current, lane = self % 32, warp = self - lane;
  unsigned* shown = host::threads[self].fragments;
  std::memcpy(shown, a, sizeof a);
  shown[4] = b0;
  shown[5] = b1;
  host::wait(host::State::at_shuffle);
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned late = k / 8, quarter = k % 8 / 2;
      const unsigned* of_a = host::threads[warp + row % 8 * 4 + quarter].fragments;
      const unsigned* of_b = host::threads[warp + column * 4 + quarter].fragments;
      c[i] += in_fragment<type>(of_a[row / 8 + 2 * late], k % 2) * in_fragment<type>(of_b[4 + late], k % 2);
    }
  }
  host::wait(host::State::at_shuffle);
}
