// What libtorch and the processor keep for every thread, and whoever calls this crate may have changed: autocast,
// inference and gradient mode, modes of Python's that stand between an operator and its kernel, hooks, the streams of
// CUDA devices, rounding and denormal numbers.

#include <ATen/ThreadLocalState.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cfenv>
#include <memory>
#include <thread>
#include <vector>

#include "errors.h"
#include "state.h"

namespace {

constexpr auto cuda = c10::DeviceType::CUDA;

// Whether anybody has begun to use CUDA in this process: before that, every thread's streams are the default ones.
bool cuda_in_use() {
  if (!c10::impl::hasDeviceGuardImpl(cuda)) return false;
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(cuda));
  return allocator != nullptr && allocator->initialized();
}

// One stream of each CUDA device.
template <typename Of>
std::vector<c10::Stream> streams(Of of) {
  std::vector<c10::Stream> all;
  const auto devices = c10::impl::VirtualGuardImpl(cuda).deviceCount();
  for (c10::DeviceIndex index = 0; index < devices; ++index) all.push_back(of(c10::Device(cuda, index)));
  return all;
}

// All that is kept for this thread.
struct State {
  at::ThreadLocalState torch;
  std::vector<c10::Stream> streams;
  std::fenv_t floats;

  State() {
    std::fegetenv(&floats);
    if (!cuda_in_use()) return;
    const c10::impl::VirtualGuardImpl guard(cuda);
    streams = ::streams([&](auto device) { return guard.getStream(device); });
  }

  void set() const {
    at::ThreadLocalState::setThreadLocalState(torch);
    for (const auto& stream : streams) c10::impl::VirtualGuardImpl(cuda).exchangeStream(stream);
    std::fesetenv(&floats);
  }
};

// The state of a thread that nobody has touched, without a graph.
const at::ThreadLocalState& untouched() {
  static const auto state = [] {
    std::unique_ptr<at::ThreadLocalState> found;
    std::exception_ptr thrown;
    std::thread([&] {
      try {
        found = std::make_unique<at::ThreadLocalState>();
      } catch (...) {
        thrown = std::current_exception();
      }
    }).join();
    if (thrown) std::rethrow_exception(thrown);
    found->set_grad_mode(false);
    return *found;
  }();
  return state;
}

// A visit to this crate, and what its caller had.
struct Visit {
  State callers;
  Visit* outer;
};

// The innermost of this thread; null while a function of the caller's runs.
thread_local Visit* visit = nullptr;

// A call from within a visit to what is not this crate's.
struct Outside {
  State inside;
  Visit* left;
};

// Nothing of the caller's is on a device: arrays of the CPU come in and go out. One stream for all threads is then all
// that is needed for a weight that one of them makes on its first use to be there when another reads it.
void use_default_streams() {
  const c10::impl::VirtualGuardImpl guard(cuda);
  for (const auto& stream : streams([&](auto device) { return guard.getDefaultStream(device); })) {
    guard.exchangeStream(stream);
  }
}

}  // namespace

bool visiting() { return visit != nullptr; }

extern "C" {

// Begins to compute in the untouched state. Null where there is no room for the caller's.
Visit* discffusion_visit_begin() {
  return caught([] {
    const auto& own = untouched();
    auto begun = std::make_unique<Visit>(Visit{{}, visit});
    // Who measures may see this crate's operators: it changes no number.
    const auto observers = at::get_record_function_tls_();
    const auto measured = c10::ThreadLocalDebugInfo::current();
    at::ThreadLocalState::setThreadLocalState(own);
    at::set_record_function_tls_(observers);
    c10::ThreadLocalDebugInfo::_forceCurrentDebugInfo(measured);
    if (cuda_in_use()) use_default_streams();
    std::fesetenv(FE_DFL_ENV);
    return visit = begun.release();
  });
}

// Ends a visit: the thread is again as it was.
void discffusion_visit_end(Visit* ended) {
  const std::unique_ptr<Visit> own(ended);
  visit = own->outer;
  own->callers.set();
}

// Goes out to the caller's state, for a function of the caller's. Null outside of a visit, or where there is no room.
Outside* discffusion_outside_begin() {
  return caught([]() -> Outside* {
    if (visit == nullptr) return nullptr;
    auto outside = std::make_unique<Outside>(Outside{{}, visit});
    visit->callers.set();
    visit = nullptr;
    return outside.release();
  });
}

// Comes back. What was changed outside holds when the visit ends.
void discffusion_outside_end(Outside* outside) {
  const std::unique_ptr<Outside> own(outside);
  visit = own->left;
  caught([] { return visit->callers = State(), true; });
  own->inside.set();
  // Somebody may have begun to use CUDA meanwhile.
  if (own->inside.streams.empty() && cuda_in_use()) use_default_streams();
}
}
