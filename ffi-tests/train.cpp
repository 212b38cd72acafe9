// qcore.hpp: a net trained on the built-in digits, saved, resumed, frozen; C++17.
//
//   train CHECKPOINT
//
// Prints one line.

#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "qcore.hpp"

namespace {

void expect(bool holds, const char *what) {
  if (!holds) throw std::runtime_error(what);
}

// Runs the frozen model over the images.
std::vector<float> logits_of(const qcore::Model &model, const qcore::Digits &digits) {
  std::vector<float> logits(digits.labels.size() * model.info().outputs);
  qcore::Workspace workspace(model, 32);
  model.run(digits.images, logits, workspace);
  return logits;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  try {
    const qcore::Digits train = qcore::digits(3, QC_DIGITS_TRAIN, 300);
    const qcore::Digits test = qcore::digits(3, QC_DIGITS_TEST, 50);
    const qcore::Pool pool(2);
    qc_trainer_options options = qcore::trainer_options();
    options.images = train.labels.size();
    const char *changes = "arch = \"24\"\nbits_a = 2\nbatch = 50\nfloat_epochs = 1\nepochs = 2";
    qcore::Trainer made("default", changes, options);
    qcore::Trainer first = std::move(made);
    const qc_epoch_report report = first.epoch(train.images, train.labels, &pool);
    expect(report.epoch == 1 && report.steps == 6 && report.more == 1, "a report is wrong");
    first.save(argv[1]);
    qcore::Trainer second = qcore::Trainer::resume(argv[1], train.labels.size());

    // A step by hand in the one, of the first fifty; the same in the other.
    for (qcore::Trainer *trainer : {&first, &second}) {
      const qcore::Score score =
          trainer->step({train.images.data(), 50 * 784}, {train.labels.data(), 50}, &pool);
      expect(score.loss > 0 && score.correct <= 50, "a score is wrong");
      expect(trainer->end_epoch().phase == QC_PHASE_QUANTIZED, "a phase is wrong");
      expect(trainer->epoch(train.images, train.labels).more == 0, "an end is wrong");
      trainer->reestimate(train.images, train.labels.size());
    }
    expect(first.tensor("layers.0.latent").size() == 784 * 24, "a tensor is wrong");
    expect(first.tensor("layers.0.latent") == second.tensor("layers.0.latent"), "weights differ");
    expect(first.describe().find("layers.0.latent 18816\n") != std::string::npos, "no tensor is told");
    const auto logits = first.predict(test.images, test.labels.size(), &pool);
    expect(logits == second.predict(test.images, test.labels.size()), "logits differ");
    expect(logits == logits_of(first.freeze(), test), "a frozen net gives other logits");
    expect(first.evaluate(test.images, test.labels).correct <= 50, "a test is wrong");
    try {
      first.predict(test.images, 49);
      throw std::runtime_error("images without a count were taken");
    } catch (const std::invalid_argument &) {
    }
    try {
      qcore::Trainer("lenet5-bgcd", "", options);
    } catch (const qcore::Error &error) {
      std::printf("train: %s\n", error.what());
      return error.status() != QC_ERROR_ARGUMENT;
    }
  } catch (const std::exception &error) {
    std::printf("unexpected: %s\n", error.what());
  }
  return 1;
}
