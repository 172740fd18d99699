// Teams of threads, by libtorch's own OpenMP.
#pragma once

// Calls `work(data)` in each of as many threads as libtorch computes with, and waits for them; in this thread alone where
// there is no OpenMP, or this is a team's thread already. An exception in another thread would end the process.
void run_team(void (*work)(void*), void* data);

// What libtorch_cpu brings along, by name, so that no second library for it is linked; null where it does not.
void* brought(const char* name);
