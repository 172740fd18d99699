// Records and starts a graph as src/kernels/graph.rs does.

#include <dlfcn.h>

#include <cstdio>
#include <exception>

#include "errors.h"

struct discffusion_graph;

extern "C" {
bool discffusion_has_graphs();
discffusion_graph* discffusion_graph_enter(int index);
bool discffusion_graph_begin(discffusion_graph* graph);
bool discffusion_graph_end(discffusion_graph* graph);
void discffusion_graph_leave(discffusion_graph* graph);
bool discffusion_graph_replay(discffusion_graph* graph);
void discffusion_graph_delete(discffusion_graph* graph);
}

void keep_error() {
  try {
    throw;
  } catch (const std::exception& error) {
    std::printf("error: %s\n", error.what());
  }
}

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  if (count > 1 && dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) == nullptr) return 1;
  std::printf("graphs: %s\n", discffusion_has_graphs() ? "yes" : "no");
  discffusion_graph* const graph = discffusion_graph_enter(2);
  if (graph == nullptr) return 0;
  const bool whole = discffusion_graph_begin(graph) && discffusion_graph_end(graph);
  discffusion_graph_leave(graph);
  if (whole) discffusion_graph_replay(graph);
  discffusion_graph_delete(graph);
}
