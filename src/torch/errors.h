// What the C++ of this crate does with what libtorch throws.
#pragma once

// To be called where something was caught: keeps what it says for `discffusion_last_error`.
void keep_error();
