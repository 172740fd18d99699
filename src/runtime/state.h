// Of state.cpp, for the other files.
#pragma once

// Whether this thread is in a visit: whether what it computes is this crate's.
bool visiting();
