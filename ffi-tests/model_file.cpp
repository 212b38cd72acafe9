// Loads a model from a file and runs it, on several threads that share it; C++17.
//
//   model_file FILE IMAGES THREADS
//
// Prints the logits of an image a line, in hexadecimal.

#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>
#include <vector>

#include "qcore.hpp"

namespace {

// A net of four pixels that is built here: their sum, and that of the first two minus the others, with a half added.
bool builds() {
  const std::int32_t signs[] = {1, 1, 1, 1, 1, 1, -1, -1};
  const auto packed = qcore::pack(QC_BIPOLAR, 2, 4, signs);
  const std::vector<float> scale{1.0F, 1.0F}, bias{0.5F, 0.5F};
  qc_value_type image = qcore::value_type();
  image.height = image.width = 2;
  qcore::ModelBuilder builder(image);
  qc_finish finish = qcore::finish();
  finish.output = QC_OUT_F32;
  finish.scale = scale.data();
  finish.bias = bias.data();
  qc_conv2d_options options = qcore::conv2d_options();
  options.output_channels = 2;
  options.filters = packed.data();
  options.filter_words = packed.size();
  options.finish = &finish;
  const auto flat = builder.flatten(builder.images());
  const auto sums = builder.name("sums").linear(flat, options);
  finish.residual = QC_RESIDUAL_AFTER;
  const auto twice = builder.linear(flat, options, sums);
  const auto both = builder.concat({sums, twice});
  if (builder.type_of(both).channels != 4) return false;
  const qcore::Model model = builder.build({both, sums});
  const std::vector<std::uint8_t> pixels{1, 2, 3, 5};
  std::vector<float> all(4), some(2);
  const qc_output outputs[] = {{all.data(), all.size()}, {some.data(), some.size()}};
  qcore::Workspace workspace(model);
  model.run(pixels, outputs, workspace);
  try {
    model.run(qcore::Floats(all), outputs, workspace);
    return false;
  } catch (const std::invalid_argument &) {
  }
  return model.output_type(1).channels == 2 && some == std::vector<float>{11.5F, -4.5F} &&
         all == std::vector<float>{11.5F, -4.5F, 23.0F, -9.0F};
}

// Twice the images, which are floats of 16 bits.
bool takes_halves() {
  qc_value_type image = qcore::value_type();
  image.kind = QC_KIND_F16;
  image.encoding = 0;
  const float two = 2.0F, zero = 0.0F;
  qc_finish finish = qcore::finish();
  finish.output = QC_OUT_F16;
  finish.scale = &two;
  finish.bias = &zero;
  qcore::ModelBuilder builder(image);
  const qcore::Model model = builder.build({builder.apply(builder.images(), finish)});
  qcore::Workspace workspace(model, 3);
  if (model.memory(3).workspace_bytes != workspace.bytes()) return false;
  const std::vector<std::uint16_t> ones{0x3C00, 0xBC00, 0x7BFF};
  std::vector<std::uint16_t> twice(3);
  const qc_output outputs[] = {{twice.data(), twice.size()}};
  model.run(ones, outputs, workspace);
  // 1, -1 and the greatest, which overflows.
  return twice == std::vector<std::uint16_t>{0x4000, 0xC000, 0x7C00};
}

}  // namespace

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

    if (!builds() || !takes_halves() || logits != again || large.bytes() == 0) return 1;
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
