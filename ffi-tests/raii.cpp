// qcore.hpp: plans made, run and moved; errors as exceptions.

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "qcore.hpp"

namespace {

qcore::Gemm gemm(const std::vector<std::uint32_t> &weights, std::size_t n, std::size_t k) {
  qc_gemm_options options = qcore::gemm_options();
  options.activation_encoding = QC_U2;
  options.n = n;
  options.k = k;
  options.weights = weights.data();
  options.weight_words = weights.size();
  return qcore::Gemm(options);
}

// Two channels of a 1 x 3 filter over a row of four pixels of one channel, to floats; then the means of all pixels.
std::vector<float> convolved(const qcore::Pool &pool) {
  const std::int32_t filters[] = {1, 1, 1, -1, 1, -1};
  const std::int32_t pixels[] = {3, 0, 2, 1};
  const auto packed = qcore::pack(QC_BIPOLAR, 2, 3, filters);
  const std::vector<float> scale{0.5F, 1.0F}, bias{0.0F, 1.0F};
  qc_finish finish = qcore::finish();
  finish.output = QC_OUT_F32;
  finish.scale = scale.data();
  finish.bias = bias.data();
  qc_conv2d_options options = qcore::conv2d_options();
  options.activation_encoding = QC_U2;
  options.output_channels = 2;
  options.channels = 1;
  options.width = 4;
  options.kernel[1] = 3;
  options.padding[1] = options.padding[3] = 1;
  options.filters = packed.data();
  options.filter_words = packed.size();
  options.finish = &finish;
  const qcore::Conv2d conv(options);
  std::vector<float> out(conv.output_size().width * 2);
  std::vector<std::int32_t> scratch(conv.scratch_len(&pool));
  conv.run(qcore::pack(QC_U2, 4, 1, pixels), 1, out, scratch, &pool);
  try {
    std::vector<std::int32_t> sums(out.size());
    conv.run(qcore::pack(QC_U2, 4, 1, pixels), 1, sums, scratch, &pool);
    throw std::runtime_error("integers were taken for floats");
  } catch (const std::invalid_argument &) {
  }
  return out;
}

// The same filters over a row of four floats.
std::vector<float> convolved_floats(const qcore::Pool &pool) {
  const std::int32_t filters[] = {1, 1, 1, -1, 1, -1};
  const auto packed = qcore::pack(QC_BIPOLAR, 2, 3, filters);
  const std::vector<float> scale{0.5F}, bias{0.0F, 1.0F}, pixels{3, 0, 2, 1};
  qc_weight_only_options weights = qcore::weight_only_options();
  weights.n = 2;
  weights.k = 3;
  weights.weights = packed.data();
  weights.weight_words = packed.size();
  weights.scales = scale.data();
  weights.n_scales = scale.size();
  weights.bias = bias.data();
  qc_float_conv2d_options options = qcore::float_conv2d_options();
  options.filters = &weights;
  options.channels = 1;
  options.width = 4;
  options.kernel[1] = 3;
  options.padding[1] = options.padding[3] = 1;
  const qcore::FloatConv2d conv(options);
  std::vector<float> out(conv.output_size().width * 2), scratch(conv.scratch_len(1, &pool));
  conv.run(pixels, out, scratch, &pool);
  return out;
}

void expect(bool holds, const char *what) {
  if (!holds) throw std::runtime_error(what);
}

// Whether `call` is refused before C sees it.
template <class Call>
bool refused(Call &&call) {
  try {
    call();
    return false;
  } catch (const std::invalid_argument &) {
    return true;
  }
}

// A 2 x 2 image of two channels into a pixel, of every kind of elements; 1.5 is 0x3E00 as a half, 0x3FC0 as bfloat16.
void pooled(const qcore::Pool &pool) {
  qc_window window = qcore::window();
  window.encoding = QC_U4;
  window.channels = 2;
  window.height = window.width = window.kernel[0] = window.kernel[1] = 2;
  const qcore::MaxPool greatest(window);
  const qcore::AveragePool mean(window);
  qc_quantizer levels = qcore::quantizer();
  levels.kind = QC_RELU;
  levels.bits = 2;
  levels.alpha = 1.0F;
  const std::int32_t rounded_up[] = {1, 2};
  const std::vector<std::uint32_t> codes = qcore::pack(QC_U2, 1, 2, rounded_up);
  std::vector<std::uint32_t> words(codes.size());
  std::vector<float> means(2);

  const std::vector<std::uint8_t> bytes{1, 8, 3, 0, 2, 4, 2, 0};
  std::vector<std::uint8_t> byte_out(2);
  greatest.run(bytes, 1, byte_out, &pool);
  mean.run(bytes, 1, 0.5F, means);
  mean.run(bytes, 1, 0.5F, levels, words);
  expect(byte_out == std::vector<std::uint8_t>{3, 8}, "the greatest bytes are wrong");
  expect(means == std::vector<float>{1.0F, 1.5F} && words == codes, "means of bytes are wrong");

  const std::vector<float> floats{1, 8, 3, 0, 2, 4, 2, 0};
  std::vector<float> float_out(2);
  greatest.run(floats, 1, float_out);
  mean.run(floats, 1, 0.5F, means, &pool);
  expect(float_out == std::vector<float>{3, 8}, "the greatest floats are wrong");
  expect(means == std::vector<float>{1.0F, 1.5F}, "means of floats are wrong");
  std::fill(words.begin(), words.end(), 0U);
  mean.run(floats, 1, 0.5F, levels, words);
  expect(words == codes, "codes of means of floats are wrong");

  for (const std::int32_t kind : {QC_KIND_F16, QC_KIND_BF16}) {
    const std::uint16_t one_and_a_half = kind == QC_KIND_F16 ? 0x3E00 : 0x3FC0;
    std::vector<std::uint16_t> halves(8, 0), half_out(2);
    halves[1] = halves[3] = halves[4] = one_and_a_half;
    greatest.run(kind, halves, 1, half_out);
    mean.run(kind, halves, 1, 2.0F, means);
    mean.run(kind, halves, 1, 2.0F, levels, words);
    expect(half_out == std::vector<std::uint16_t>(2, one_and_a_half), "the greatest halves are wrong");
    expect(means == std::vector<float>{0.75F, 1.5F}, "means of halves are wrong");
  }
  expect(refused([&] { mean.run(QC_KIND_F32, qcore::Halves(), 1, 1.0F, means); }), "halves of 32 bits");
}

// gamma (y - mean) / sqrt(var + eps) + beta of y = 2 sum + 1, where that root is 2.
void folded() {
  std::vector<float> scale{2, 2}, bias{1, 1};
  const std::vector<float> gamma{1, -4}, beta{0, 3}, mean{1, 2}, var{3, 3};
  qcore::fold_batch_norm(gamma, beta, mean, var, 1.0F, scale, bias);
  expect(scale == std::vector<float>{1, -4} && bias == std::vector<float>{0, 5}, "a fold is wrong");
  scale.pop_back();
  expect(refused([&] { qcore::fold_batch_norm(gamma, beta, mean, var, 1.0F, scale, bias); }),
         "channels without a scale were folded");
}

// A pool in a model: measured, bounded, reported.
void reported() {
  qc_value_type image = qcore::value_type();
  image.height = image.width = 2;
  image.channels = 3;
  image.kind = QC_KIND_F32;
  qcore::ModelBuilder builder(image);
  qc_window window = qcore::window();
  window.kernel[0] = window.kernel[1] = 2;
  const qcore::Model model = builder.build({builder.name("top").max_pool(builder.images(), window)});
  qcore::Workspace workspace(model, 2);
  const std::vector<float> images(2 * 2 * 2 * 3, 1.0F);
  const auto measured = model.profile(images, 3, workspace), bounds = model.predict(2);
  expect(measured.size() == 2 && measured[0] == 0 && measured[1] > 0, "a profile is wrong");
  expect(bounds.size() == 2 && bounds[0] == 0 && bounds[1] > 0, "a bound is missing");
  expect(model.report(measured, bounds, 2).find("max_pool top") != std::string::npos, "no report");
  expect(model.report(measured, {}, 2).find(" -  1: ") != std::string::npos, "a bound from nowhere");
  const std::vector<std::uint8_t> bytes(images.size());
  expect(refused([&] { model.profile(bytes, 3, workspace); }), "bytes were taken for floats");
}

}  // namespace

int main() {
  try {
    const qcore::Pool pool(2);
    const std::vector<std::int32_t> w{1, -1, 1, -1, -1, -1}, a{3, 2, 1, 0, 1, 3};
    const auto weights = qcore::pack(QC_BIPOLAR, 2, 3, w);
    const auto activations = qcore::pack(QC_U2, 2, 3, a);
    qcore::Gemm made = gemm(weights, 2, 3);
    const qcore::Gemm plan = std::move(made);
    std::vector<std::int32_t> out(4), scratch(plan.scratch_len(2));
    plan.run(activations, 2, out, scratch, &pool);
    if (out != std::vector<std::int32_t>{2, -6, 2, -4}) throw std::runtime_error("a product is wrong");
    plan.run(activations, {2, 1, 2}, qcore::View<std::int32_t>(out.data(), 2), scratch);
    if (out[0] != 2 || out[1] != -4) throw std::runtime_error("a row of it is wrong");
    if (plan.describe().empty()) throw std::runtime_error("a plan does not describe itself");

    // Sums 3 5 3 3 and -3 -5 1 -1, where the pad is 0.
    const std::vector<float> expected{1.5F, 4.0F, 2.5F, -4.0F, 1.5F, 2.0F, 1.5F, 0.0F};
    if (convolved(pool) != expected) throw std::runtime_error("a convolution is wrong");
    // The same sums, all by 0.5.
    const std::vector<float> halved{1.5F, 2.5F, 2.5F, -1.5F, 1.5F, 1.5F, 1.5F, 0.5F};
    expect(convolved_floats(pool) == halved, "a convolution of floats is wrong");
    pooled(pool);
    folded();
    reported();

    try {
      gemm(weights, 2, 40);
      throw std::runtime_error("weights that are too short were taken");
    } catch (const qcore::Error &error) {
      if (error.status() != QC_ERROR_ARGUMENT) throw;
      std::printf("raii: %s\n", error.what());
    }
  } catch (const std::exception &error) {
    std::printf("unexpected: %s\n", error.what());
    return 1;
  }
  return 0;
}
