// CUDA graphs: kernels that are recorded once and started again as one.
//
// libtorch has them in its library for CUDA, which this crate is not linked with, so that one build serves machines with
// and without. The methods are looked up there by name.

#include <c10/core/Allocator.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>

#include "errors.h"

// A test that has CUDA's headers asks the compiler whether what is taken for granted below is so.
#ifdef WITH_CUDA_HEADERS
#include <ATen/cuda/CUDAGraph.h>
#endif

namespace {

using c10::MempoolId_t;

// at::cuda::CUDAGraph, as bytes: with room to spare.
struct alignas(std::max_align_t) Object {
  std::byte bytes[1024];
};

// cudaStreamCaptureModeThreadLocal: what other threads do meanwhile does not matter.
constexpr int thread_local_mode = 1;

#ifdef WITH_CUDA_HEADERS
using at::cuda::CUDAGraph;
static_assert(sizeof(CUDAGraph) <= sizeof(Object) && alignof(CUDAGraph) <= alignof(Object));
static_assert(std::is_constructible_v<CUDAGraph, bool>);
static_assert(std::is_same_v<decltype(&CUDAGraph::capture_begin), void (CUDAGraph::*)(MempoolId_t, cudaStreamCaptureMode)>);
static_assert(std::is_same_v<decltype(&CUDAGraph::capture_end), void (CUDAGraph::*)()>);
static_assert(std::is_same_v<decltype(&CUDAGraph::replay), void (CUDAGraph::*)()>);
static_assert(sizeof(cudaStreamCaptureMode) == sizeof(int) && cudaStreamCaptureModeThreadLocal == thread_local_mode);
#endif

// Its methods; the object is their first argument, as in every ABI that libtorch for CUDA is built for on Linux.
struct Methods {
  void (*construct)(Object*, bool);
  void (*destroy)(Object*);
  void (*begin)(Object*, MempoolId_t, int);
  void (*end)(Object*);
  void (*replay)(Object*);
};

// Nothing where libtorch's library for CUDA is not open, or has other methods.
std::optional<Methods> methods() {
  void* const library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return std::nullopt;
  Methods found;
  const auto find = [&](auto& method, const char* name) {
    method = reinterpret_cast<std::remove_reference_t<decltype(method)>>(dlsym(library, name));
    return method != nullptr;
  };
  const bool complete = find(found.construct, "_ZN2at4cuda9CUDAGraphC1Eb") &&
                        find(found.destroy, "_ZN2at4cuda9CUDAGraphD1Ev") &&
                        find(found.begin, "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode") &&
                        find(found.end, "_ZN2at4cuda9CUDAGraph11capture_endEv") &&
                        find(found.replay, "_ZN2at4cuda9CUDAGraph6replayEv");
  // It was open before and stays so; this only gives back what was counted above.
  dlclose(library);
  return complete ? std::optional(found) : std::nullopt;
}

}  // namespace

extern "C" {

// A graph of a device, and where the thread that records it computed before.
struct discffusion_graph {
  Object object;
  Methods methods;
  c10::Device device;
  c10::Device previous_device;
  c10::Stream previous;
};

// Whether libtorch's library for CUDA is open and has graphs.
bool discffusion_has_graphs() { return methods().has_value(); }

// A graph to be recorded on a CUDA device. This thread computes on a stream of the graph's from here on.
discffusion_graph* discffusion_graph_enter(int index) {
  return caught([&] {
    const auto found = methods();
    TORCH_CHECK(found.has_value(), "libtorch's CUDA graphs are not there");
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    const auto side = cuda.getStreamFromGlobalPool(device);
    auto graph = std::make_unique<discffusion_graph>(
        discffusion_graph{{}, *found, device, cuda.getDevice(), cuda.getStream(device)});
    // What was begun on other streams is ready when the graph's reads it.
    cuda.synchronizeDevice(device.index());
    graph->methods.construct(&graph->object, false);
    cuda.setDevice(device);
    cuda.exchangeStream(side);
    return graph.release();
  });
}

// Records from here on, in memory of its own.
bool discffusion_graph_begin(discffusion_graph* graph) {
  return caught([&] {
    c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).synchronizeDevice(graph->device.index());
    graph->methods.begin(&graph->object, {0, 0}, thread_local_mode);
    return true;
  });
}

// Ends the record.
bool discffusion_graph_end(discffusion_graph* graph) {
  return caught([&] {
    graph->methods.end(&graph->object);
    return true;
  });
}

// This thread computes again where it did.
void discffusion_graph_leave(discffusion_graph* graph) {
  caught([&] {
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    cuda.synchronizeDevice(graph->device.index());
    cuda.exchangeStream(graph->previous);
    cuda.setDevice(graph->previous_device);
  });
}

// Starts what was recorded, on the stream that this thread computes on.
bool discffusion_graph_replay(discffusion_graph* graph) {
  return caught([&] {
    graph->methods.replay(&graph->object);
    return true;
  });
}

// Ends a graph, when the device is done with it.
void discffusion_graph_delete(discffusion_graph* graph) {
  caught([&] {
    const std::unique_ptr<discffusion_graph> own(graph);
    c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).synchronizeDevice(graph->device.index());
    graph->methods.destroy(&graph->object);
  });
}
}
