// In place of libtorch's library for CUDA: devices and graphs that only say what is asked of them.

#include <c10/core/Allocator.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

int device = 0;
c10::StreamId streams[4] = {};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device to) const override {
    const Device from = getDevice();
    setDevice(to);
    return from;
  }
  Device getDevice() const override { return Device(DeviceType::CUDA, static_cast<DeviceIndex>(device)); }
  void setDevice(Device to) const override {
    device = to.index();
    std::printf("device %d\n", device);
  }
  void uncheckedSetDevice(Device to) const noexcept override { device = to.index(); }
  Stream getStream(Device of) const override { return Stream(Stream::UNSAFE, of, streams[of.index()]); }
  Stream getStreamFromGlobalPool(Device of, bool) const override { return Stream(Stream::UNSAFE, of, 7); }
  Stream exchangeStream(Stream to) const override {
    const Stream from = getStream(to.device());
    streams[to.device_index()] = to.id();
    std::printf("stream %d of %d\n", static_cast<int>(to.id()), static_cast<int>(to.device_index()));
    return from;
  }
  DeviceIndex deviceCount() const noexcept override { return 4; }
  void synchronizeDevice(DeviceIndex of) const override { std::printf("wait for %d\n", static_cast<int>(of)); }
};

const c10::impl::DeviceGuardImplRegistrar registrar(DeviceType::CUDA, new Guard);

void say(const char* what) {
  std::printf("%s on %d of %d\n", what, static_cast<int>(streams[device]), device);
  const char* const fails = std::getenv("FAILS");
  if (fails != nullptr && std::string(fails) == what) throw std::runtime_error(std::string(what) + " failed");
}

}  // namespace

// As CUDA's headers have it.
enum cudaStreamCaptureMode : int { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };

namespace at::cuda {

// Of the size that the real one has, about; whoever gives it too little room is found out by the sanitizer.
struct CUDAGraph {
  explicit CUDAGraph(bool keep_graph);
  ~CUDAGraph();
  void capture_begin(c10::MempoolId_t pool, cudaStreamCaptureMode mode);
  void capture_end();
  void replay();

  long own[64];
};

CUDAGraph::CUDAGraph(bool keep_graph) {
  for (long& number : own) number = 11;
  say(keep_graph ? "made, to be kept" : "made");
}
CUDAGraph::~CUDAGraph() {
  say("gone");
  for (long& number : own) number = 0;
}
void CUDAGraph::capture_begin(c10::MempoolId_t pool, cudaStreamCaptureMode mode) {
  if (own[63] != 11 || pool != c10::MempoolId_t{0, 0} || mode != cudaStreamCaptureModeThreadLocal) std::abort();
  say("begin");
}
void CUDAGraph::capture_end() { say("end"); }
void CUDAGraph::replay() { say("replay"); }

}  // namespace at::cuda
