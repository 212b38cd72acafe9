// Loads a model from a file and runs it, on several threads that share it; C++17.
//
//   model_file FILE IMAGES THREADS
//
// Prints the logits of an image a line, in hexadecimal.

#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "qcore.hpp"

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  try {
    const qcore::Model model = qcore::Model::load(argv[1]);
    std::ifstream file(argv[2], std::ios::binary);
    const std::vector<char> read{std::istreambuf_iterator<char>(file), {}};
    const std::vector<std::uint8_t> images(read.begin(), read.end());
    const auto info = model.info();
    const std::size_t count = images.size() / info.inputs;
    std::vector<float> logits(count * info.outputs);

    // All at once on this thread, from the bytes of the model.
    std::vector<float> again(logits.size());
    const qcore::Model twin = qcore::Model::load_memory(model.to_bytes());
    qcore::Workspace large(twin, count, 2, QC_MODE_THROUGHPUT);
    const qcore::Pool pool(2);
    twin.run(images, again, large, &pool);

    // Each thread has images, logits and a workspace of its own.
    const auto threads = static_cast<std::size_t>(std::stoi(argv[3]));
    std::vector<std::thread> workers;
    for (std::size_t t = 0; t < threads; t++) {
      const std::size_t begin = count * t / threads, end = count * (t + 1) / threads;
      workers.emplace_back([&, begin, end] {
        qcore::Workspace workspace(model, 2);
        model.run({images.data() + begin * info.inputs, (end - begin) * info.inputs},
                  {logits.data() + begin * info.outputs, (end - begin) * info.outputs}, workspace);
      });
    }
    for (auto &worker : workers) worker.join();

    if (logits != again || large.bytes() == 0) return 1;
    std::puts(model.describe().c_str());
    for (std::size_t i = 0; i < count; i++) {
      for (std::size_t j = 0; j < info.outputs; j++) {
        std::printf(" %a", static_cast<double>(logits[i * info.outputs + j]));
      }
      std::puts("");
    }
    try {
      qcore::Model::load("no/such/file");
      return 1;
    } catch (const qcore::Error &error) {
      if (error.status() != QC_ERROR_IO) return 1;
    }
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
