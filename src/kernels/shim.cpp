// What tch does not bind: oneDNN's prepacked kernels, tensors over memory that somebody else owns, and the memory of
// CUDA devices.
//
// Compiled against the headers of the torch that the crate is linked with. Every function catches what libtorch
// throws and returns null; `discffusion_last_error` then says what it was.

#include <ATen/Config.h>
#include <ATen/Context.h>
#include <ATen/SDPBackend.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>

#include "attend.h"
#include "errors.h"

namespace {

thread_local std::string last_error;

}  // namespace

void keep_error() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError& error) {
    // In words that are looked for, whatever device it was.
    last_error = std::string("out of memory: ") + error.what();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown C++ exception";
  }
}

namespace {

template <typename Work>
at::Tensor* guarded(Work work) {
  return caught([&] { return new at::Tensor(work()); });
}

// The operators are registered with the dispatcher, in libtorch_cpu, but not declared in any header.
at::Tensor call(const c10::OperatorHandle& op, std::initializer_list<c10::IValue> arguments) {
  torch::jit::Stack stack(arguments);
  op.callBoxed(stack);
  return std::move(stack.front()).toTensor();
}

c10::OperatorHandle find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
}

c10::IValue optional(const at::Tensor* tensor) {
  return tensor == nullptr ? c10::IValue() : c10::IValue(*tensor);
}

c10::IValue no_scalars() {
  return c10::impl::GenericList(c10::OptionalType::create(c10::NumberType::get()));
}

c10::IValue pair(int64_t value) { return c10::List<int64_t>({value, value}); }

}  // namespace

extern "C" {

const char* discffusion_last_error() { return last_error.c_str(); }

// Whether libtorch was built with oneDNN and may use it.
bool discffusion_has_onednn() { return at::hasMKLDNN() && at::globalContext().userEnabledMkldnn(); }

// Whether this thread records what it computes, to be differentiated.
bool discffusion_records() { return at::GradMode::is_enabled(); }

// A convolution's weight [out, in, k, k] in the layout that is best for inputs of this size.
at::Tensor* discffusion_pack_conv2d(const at::Tensor* weight, int64_t stride, int64_t padding, const int64_t* input,
                                    std::size_t dimensions) {
  return guarded([&] {
    static const auto op = find("mkldnn::_reorder_convolution_weight", "");
    const at::IntArrayRef size(input, dimensions);
    return call(op, {*weight, pair(padding), pair(stride), pair(1), int64_t{1}, c10::List<int64_t>(size)});
  });
}

// The convolution of x with a packed weight.
at::Tensor* discffusion_conv2d(const at::Tensor* x, const at::Tensor* packed, const at::Tensor* bias, int64_t stride,
                               int64_t padding) {
  return guarded([&] {
    static const auto op = find("mkldnn::_convolution_pointwise", "");
    return call(op, {*x, *packed, optional(bias), pair(padding), pair(stride), pair(1), int64_t{1}, "none",
                     no_scalars(), c10::IValue()});
  });
}

// A linear layer's weight [out, in] in the layout that is best for this many rows.
at::Tensor* discffusion_pack_linear(const at::Tensor* weight, int64_t rows) {
  return guarded([&] {
    static const auto op = find("mkldnn::_reorder_linear_weight", "");
    return call(op, {*weight, rows});
  });
}

// x times a packed weight.
at::Tensor* discffusion_linear(const at::Tensor* x, const at::Tensor* packed, const at::Tensor* bias) {
  return guarded([&] {
    static const auto op = find("mkldnn::_linear_pointwise", "");
    return call(op, {*x, *packed, optional(bias), "none", no_scalars(), c10::IValue()});
  });
}

// Attention that pools its map, see attend.h: three new tensors or nulls in `outputs`. False where it is not made for that,
// with an empty last error, or where libtorch threw.
bool discffusion_attend_pooled(const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, const at::Tensor* lse,
                               double scale, int map, double lambda, const int64_t* ranges, at::Tensor** outputs) {
  last_error.clear();
  return caught([&] {
    at::Tensor found[3];
    if (!attend_pooled(*q, *k, v, lse, scale, static_cast<Map>(map), lambda, ranges, found)) return false;
    for (int i = 0; i < 3; ++i) outputs[i] = found[i].defined() ? new at::Tensor(std::move(found[i])) : nullptr;
    return true;
  });
}

// Fused attention with the logarithm of every row's sum of exponentials: output [B, H, n, d] and lse [B, H, n] float32, by
// the kernel that libtorch itself would choose for these inputs. False, with an empty last error, if that has no lse.
bool discffusion_attend_lse(const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, at::Tensor** outputs) {
  last_error.clear();
  return caught([&] {
    const int64_t rows = q->size(2);
    at::Tensor output, lse;
    if (q->is_cpu()) {
      std::tie(output, lse) = at::_scaled_dot_product_flash_attention_for_cpu(*q, *k, *v);
    } else {
      // Kernels for CUDA want a multiple of 8; libtorch pads others, which is not worth repeating here.
      if (q->size(3) % 8 != 0 || v->size(3) % 8 != 0) return false;
      switch (static_cast<at::SDPBackend>(at::_fused_sdp_choice(*q, *k, *v))) {
        case at::SDPBackend::flash_attention: {
          auto made = at::_scaled_dot_product_flash_attention(*q, *k, *v);
          output = std::get<0>(made);
          lse = std::get<1>(made);
          break;
        }
        case at::SDPBackend::efficient_attention: {
          auto made = at::_scaled_dot_product_efficient_attention(*q, *k, *v, std::nullopt, true);
          output = std::get<0>(made);
          lse = std::get<1>(made);
          break;
        }
        case at::SDPBackend::cudnn_attention: {
          auto made = at::_scaled_dot_product_cudnn_attention(*q, *k, *v, std::nullopt, true);
          output = std::get<0>(made);
          lse = std::get<1>(made);
          break;
        }
        default:
          return false;
      }
    }
    // One kernel fills rows up to a multiple of 32, another has a last axis of one.
    lse = lse.reshape({q->size(0), q->size(1), -1}).narrow(2, 0, rows);
    outputs[0] = new at::Tensor(std::move(output));
    outputs[1] = new at::Tensor(std::move(lse));
    return true;
  });
}

// A copy of a tensor on a CUDA device, through memory that the device reads by itself while the CPU goes on.
at::Tensor* discffusion_upload(const at::Tensor* tensor, int index) {
  return guarded([&] {
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    // libtorch keeps that memory until the device has read it.
    return tensor->pin_memory().to(device, /*non_blocking=*/true);
  });
}

// A tensor on its way from a CUDA device, and the moment at which it has come.
struct discffusion_arrival {
  at::Tensor tensor;
  c10::Event event{c10::DeviceType::CUDA};
};

// Begins to copy a tensor from the device that holds it into the CPU's memory, and returns at once.
discffusion_arrival* discffusion_send(const at::Tensor* tensor) {
  return caught([&] {
    auto arrival = std::make_unique<discffusion_arrival>();
    // Memory that the device writes by itself.
    arrival->tensor = at::empty(tensor->sizes(), tensor->options().device(at::kCPU).pinned_memory(true));
    arrival->tensor.copy_(*tensor, /*non_blocking=*/true);
    arrival->event.record(c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getStream(tensor->device()));
    return arrival.release();
  });
}

// Waits for the tensor to come.
at::Tensor* discffusion_receive(discffusion_arrival* arrival) {
  return guarded([&] {
    const std::unique_ptr<discffusion_arrival> own(arrival);
    own->event.synchronize();
    return std::move(own->tensor);
  });
}

// The stream of a CUDA device that this thread computes on, as the driver knows it. False where there is none.
bool discffusion_cuda_stream(int index, void** stream) {
  try {
    const c10::impl::VirtualGuardImpl device(c10::DeviceType::CUDA);
    *stream = device.getStream(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index))).native_handle();
    return true;
  } catch (...) {
    return false;
  }
}

// Bytes of a CUDA device: free, in all, allocated by tensors now, and at most so far. The allocator is found by name at
// run time, so that nothing of CUDA is linked; false where there is none.
bool discffusion_cuda_memory(int index, std::size_t* bytes) {
  try {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    if (!allocator->initialized()) return false;
    const auto device = static_cast<c10::DeviceIndex>(index);
    const auto [free, total] = allocator->getMemoryInfo(device);
    const auto stats = allocator->getDeviceStats(device);
    const auto allocated = stats.allocated_bytes[0];
    // What the allocator keeps for later tensors is as good as free.
    bytes[0] = free + static_cast<std::size_t>(stats.reserved_bytes[0].current - allocated.current);
    bytes[1] = total;
    bytes[2] = static_cast<std::size_t>(allocated.current);
    bytes[3] = static_cast<std::size_t>(allocated.peak);
    return true;
  } catch (...) {
    return false;
  }
}

// Gives memory that is kept for later tensors back to the CUDA devices.
void discffusion_empty_cuda_cache() {
  try {
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    if (allocator->initialized()) allocator->emptyCache();
  } catch (...) {
    // There was nothing to give back.
  }
}
}
