// What the C++ of this crate does with what libtorch throws.
#pragma once

// To be called where something was caught: keeps what it says for `discffusion_last_error`.
void keep_error();

// What `work` gives; where it throws, which is kept, a null or false in its place.
template <typename Work>
auto caught(Work work) -> decltype(work()) {
  try {
    return work();
  } catch (...) {
    keep_error();
  }
  return decltype(work())();
}
