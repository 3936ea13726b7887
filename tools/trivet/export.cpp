// trivet export: a trained model as a folder of its own, for inference.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/trivet/resolve.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/text.h"
#include "trivet/infer/infer.h"

namespace trivet::cli {
namespace {

struct Options {
  std::string run;
  std::string output;
  std::string weights = "f32";
  std::string checkpoint = "best";
};

void export_run(const Options& options, const Context& context) {
  InferConfig config;
  config.run = find_run(options.run, context.workspace);
  config.checkpoint = options.checkpoint;
  const ChosenCheckpoint chosen = choose_checkpoint(config);
  export_model(chosen.path, options.output, dtype_from_name(options.weights));
  const auto bytes = std::filesystem::file_size(std::filesystem::path(options.output) / kModelFile);
  std::printf("%s\n", fmt::format("{}: the model of step {}, weights in {}, {}", options.output, chosen.state.step,
                                  options.weights, format_bytes(bytes))
                          .c_str());
}

}  // namespace

void add_export(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("export");
  verb->add_option("run", options->run, "Id, name or folder of a training run, or one of its checkpoints")->required();
  verb->add_option("--output", options->output, "Folder to be made; infer.run takes it")->required();
  verb->add_option("--weights", options->weights, "What weights are stored as: f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  verb->add_option("--checkpoint", options->checkpoint, "Which one of the run: best or last")
      ->check(CLI::IsMember({"best", "last"}))
      ->capture_default_str();
  verb->footer("Example:\n  trivet export fashion-cnn --output fashion-cnn-f16 --weights f16");
  verb->callback([options, &context] { export_run(*options, context); });
}

}  // namespace trivet::cli
