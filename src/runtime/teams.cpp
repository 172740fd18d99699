// Teams of threads, by libtorch's own OpenMP, and what this crate does to their threads.
//
// oneDNN's kernels run in all of them, and what signals.rs describes may happen in each. A thread of a team cannot be
// given a stack for signals once and for all: the OpenMP of GCC ends threads when a smaller team is asked for, as oneDNN
// does for little work, and makes new ones for the next. So every team is begun here: the entry of libtorch_cpu's table of
// imported functions by which it calls `GOMP_parallel` leads to a function of this file, which calls the true one.

#include "teams.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <cstring>

#include "state.h"

#if defined(__linux__) && defined(__x86_64__)
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

using Work = void (*)(void*);
using Parallel = void (*)(Work, void*, unsigned threads, unsigned flags);

Parallel openmp() {
  static const auto found = reinterpret_cast<Parallel>(brought("GOMP_parallel"));
  return found;
}

// Gives the calling thread a stack for signals. Null until the door has been entered.
std::atomic<Work> prepare{nullptr};

struct Team {
  Work work;
  void* data;
  pthread_t caller;
  bool ours;
};

void take_part(void* team_) {
  const auto& team = *static_cast<const Team*>(team_);
  if (pthread_equal(pthread_self(), team.caller)) return team.work(team.data);
  prepare.load(std::memory_order_relaxed)(nullptr);
  if (!team.ours) return team.work(team.data);
  // A thread begins with what its maker had set of rounding and denormal numbers.
  std::fenv_t before;
  std::fegetenv(&before);
  std::fesetenv(FE_DFL_ENV);
  team.work(team.data);
  std::fesetenv(&before);
}

void begin_team(Work work, void* data, unsigned threads, unsigned flags) {
  Team team{work, data, pthread_self(), visiting()};
  openmp()(take_part, &team, threads, flags);
}

#if defined(__linux__) && defined(__x86_64__)
// Where a library keeps the address of an imported function.
struct Entry {
  const char* library;
  const char* function;
  void** address = nullptr;
  bool locked = false;  // whether the page can only be read since the library was loaded
};

int look(dl_phdr_info* info, std::size_t, void* entry_) {
  auto& entry = *static_cast<Entry*>(entry_);
  const char* slash = std::strrchr(info->dlpi_name, '/');
  if (std::strcmp(slash == nullptr ? info->dlpi_name : slash + 1, entry.library) != 0) return 0;
  const ElfW(Dyn)* dynamic = nullptr;
  const ElfW(Phdr)* locked = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + segment.p_vaddr);
    if (segment.p_type == PT_GNU_RELRO) locked = &segment;
  }
  if (dynamic == nullptr) return 1;
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela)* table = nullptr;
  std::size_t bytes = 0;
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    // glibc has made these addresses absolute.
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_JMPREL) table = reinterpret_cast<const ElfW(Rela)*>(dynamic->d_un.d_ptr);
    if (dynamic->d_tag == DT_PLTRELSZ) bytes = dynamic->d_un.d_val;
  }
  if (symbols == nullptr || names == nullptr || table == nullptr) return 1;
  for (const auto* end = table + bytes / sizeof *table; table < end; ++table) {
    if (ELF64_R_TYPE(table->r_info) != R_X86_64_JUMP_SLOT) continue;
    if (std::strcmp(names + symbols[ELF64_R_SYM(table->r_info)].st_name, entry.function) != 0) continue;
    entry.address = reinterpret_cast<void**>(info->dlpi_addr + table->r_offset);
    entry.locked = locked != nullptr && table->r_offset - locked->p_vaddr < locked->p_memsz;
    return 1;
  }
  return 1;
}

const Entry& entry() {
  static const auto found = [] {
    Entry entry{"libtorch_cpu.so", "GOMP_parallel"};
    dl_iterate_phdr(look, &entry);
    return entry;
  }();
  return found;
}

bool change(const Entry& entry, void* address) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  auto* const start = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(entry.address) & ~(page - 1));
  if (entry.locked && mprotect(start, page, PROT_READ | PROT_WRITE) != 0) return false;
  __atomic_store_n(entry.address, address, __ATOMIC_RELEASE);
  if (entry.locked) mprotect(start, page, PROT_READ);
  return true;
}
#endif

}  // namespace

void* brought(const char* name) {
  static void* const library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, name);
}

void run_team(Work work, void* data) {
  const int threads = at::get_num_threads();
  if (openmp() == nullptr || threads <= 1 || at::in_parallel_region()) return work(data);
  const auto begin = prepare.load() == nullptr ? openmp() : begin_team;
  begin(work, data, static_cast<unsigned>(threads), 0);
}

extern "C" {

// From here on `give_stack` is called by every thread of a team of libtorch's, but the one that begins it, before it does
// the team's work. False where that cannot be done.
bool discffusion_guard_teams(Work give_stack) {
#if defined(__linux__) && defined(__x86_64__)
  if (openmp() == nullptr || entry().address == nullptr) return false;
  prepare.store(give_stack);
  // The loader writes there as well, in another thread's first call; so it is looked at whenever the door is entered.
  auto* const ours = reinterpret_cast<void*>(begin_team);
  return __atomic_load_n(entry().address, __ATOMIC_RELAXED) == ours || change(entry(), ours);
#else
  return false;
#endif
}

// Before a fork: ends the threads of this thread's team, which would not come along and be waited for. Both sides make
// new ones when they need them. False where that cannot be done.
bool discffusion_end_team() {
  using Pause = int (*)(int);
  static const auto pause = reinterpret_cast<Pause>(brought("omp_pause_resource_all"));
  constexpr int soft = 1;
  return pause != nullptr && pause(soft) == 0;
}
}
