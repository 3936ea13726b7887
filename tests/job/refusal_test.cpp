// Jobs that must be refused, and what the user is told.
#include <gmock/gmock.h>

#include "tests/job/job_files.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Lines that are added to a good training job, and what the error must say.
struct BadLines {
  const char* lines;
  const char* text;
};

class JobRefusalTest : public JobTest {
 protected:
  void expect_refused(const std::vector<BadLines>& cases) const {
    for (const BadLines& bad : cases) {
      SCOPED_TRACE(bad.lines);
      EXPECT_THAT(error_of(train_text(bad.lines)).what(), HasSubstr(bad.text));
    }
  }
};

TEST_F(JobRefusalTest, NamesTheNearestKeyAtEachLevel) {
  expect_refused({
      {"sed: 1\n", "job.yaml:4:1: unknown key 'sed' in the file\n  hint: did you mean 'seed'?"},
      {"modle: {}\n", "did you mean 'model'?"},
      {"model: {hiden: [1]}\n", "job.yaml:4:9: unknown key 'hiden' in 'model'\n  hint: did you mean 'hidden'?"},
      {"model: {name: layers, layers: [{type: dense, unit: 10}]}\n",
       "unknown key 'unit' in 'model.layers[0]'\n  hint: did you mean 'units'?"},
      {"train: {epoch: 1}\n", "unknown key 'epoch' in 'train'\n  hint: did you mean 'epochs'?"},
      {"train: {optimizer: {learning: 1}}\n", "unknown key 'learning' in 'train.optimizer'"},
      {"train: {optimizer: {weight-decay: 1}}\n", "did you mean 'weight_decay'?"},
      {"train: {schedule: {warmup: 1}}\n", "unknown key 'warmup' in 'train.schedule'"},
      {"train: {checkpoint: {keep_lst: 1}}\n", "did you mean 'keep_last'?"},
  });
  EXPECT_THAT(error_of(train_text(), {"data.train.image=x"}).what(), HasSubstr("did you mean 'images'?"));
  EXPECT_THAT(error_of(train_text(), {"data.augment.flop=true"}).what(), HasSubstr("did you mean 'flip'?"));
  EXPECT_THAT(error_of(infer_text("infer: {run: r, batchs: 1}\n")).what(), HasSubstr("did you mean 'batch'?"));
}

TEST_F(JobRefusalTest, RefusesValuesOutOfRange) {
  expect_refused({
      {"seed: -1\n", "seed: expected an integer from 0 to 9223372036854775807, found -1"},
      {"memory: 2GB\n", "memory: '2GB' is no amount of memory"},
      {"memory: -1GiB\n", "memory: '-1GiB' is no amount of memory"},
      {"memory: nanGiB\n", "is no amount of memory"},
      {"threads: 1025\n", "threads: expected an integer from 0 to 1024"},
      {"ranks: 0\n", "ranks: expected an integer from 1 to 65536"},
      {"restarts: -1\n", "restarts: expected an integer from 0"},
      {"rank_deadline: 0\n", "rank_deadline: expected an integer from 1"},
      {"train: {shards: 6}\n", "train.shards: 6 is not a power of two"},
      {"ranks: 3\ntrain: {shards: 4}\n", "train.shards: 4 cannot be shared out evenly among 3 ranks"},
      {"train: {shards: 8, batch: 4}\n", "train.shards: 8 is larger than train.batch"},
      {"train: {shards: 2, batch: 8, micro_batch: 2}\n", "train.micro_batch: cannot be combined with shards"},
      {"ranks: 3\ntrain: {batch: 2}\n", "train.batch: 2 samples are fewer than the 3 ranks"},
      {"model: {hidden: []}\n", "model.hidden: expected a list of 1 to 1000 integers"},
      {"model: {hidden: [0]}\n", "model.hidden[0]: expected an integer from 1 to 1000000, found 0"},
      {"model: {channels: 32}\n", "write [32]"},
      {"model: {dropout: 1}\n", "model.dropout: expected a number from 0 to less than 1, found 1"},
      {"model: {classes: 1}\n", "model.classes: expected an integer from 2"},
      {"model: {activation: rleu}\n", "did you mean 'relu'?"},
      {"train: {epochs: 1000001}\n", "train.epochs: expected an integer from 1 to 1000000"},
      {"train: {batch: 0}\n", "train.batch: expected an integer from 1 to 1000000, found 0"},
      {"train: {clip_norm: -1}\n", "train.clip_norm: expected a number from 0"},
      {"train: {optimizer: {lr: 0}}\n", "train.optimizer.lr: expected a number above 0"},
      {"train: {optimizer: {lr: .nan}}\n", "found the text '.nan'"},
      {"train: {optimizer: {name: adam}}\n", "did you mean 'adamw'?"},
      {"train: {optimizer: {beta2: 1}}\n", "train.optimizer.beta2"},
      {"train: {schedule: {name: cosine, floor: 2}}\n", "train.schedule.floor"},
      {"train: {checkpoint: {every_epochs: 0}}\n", "train.checkpoint.every_epochs"},
      {"train: {checkpoint: {best_metric: f2}}\n", "did you mean 'f1'?"},
      {"train: {loss: hubert}\n", "did you mean 'huber'?"},
      {"train: {average: {decay: 1}}\n", "train.average.decay: expected a number from 0 to less than 1"},
      {"train: {early_stop: {patience: 0}}\n", "train.early_stop.patience: expected an integer from 1"},
      {"train: {schedule: {name: one_cycle, start: 0}}\n", "train.schedule.start: expected a number above 0"},
  });
  EXPECT_THAT(error_of(train_text(), {"data.validation=1"}).what(), HasSubstr("data.validation: expected a number"));
  EXPECT_THAT(error_of(train_text(), {"data.augment.flip=yes"}).what(), HasSubstr("expected true or false"));
}

TEST_F(JobRefusalTest, RefusesKeysThatHaveNoEffect) {
  expect_refused({
      {"model: {name: mlp, channels: [3]}\n", "model.channels: applies only with name: cnn, found name: mlp"},
      {"model: {name: mlp, batch_norm: true}\n", "model.batch_norm: applies only with name: cnn"},
      {"model: {layers: []}\n", "model.layers: applies only with name: layers, found name: cnn"},
      {"model: {name: layers, hidden: [3], layers: [{type: flatten}]}\n",
       "applies only with name: mlp or cnn or wide_deep or autoencoder"},
      {"model: {name: resnet, units: 3}\n", "model.units: applies only with name: lstm"},
      {"model: {name: autoencoder, classes: 3}\n",
       "model.classes: applies only with name: logistic or mlp or cnn or resnet"},

      {"model: {name: layers, layers: [{type: conv, filters: 1, units: 3}]}\n",
       "model.layers[0].units: applies only with type: dense, found type: conv"},
      {"model: {name: layers, layers: [{type: flatten, size: 3}]}\n",
       "applies only with type: max_pool or average_pool"},
      {"train: {optimizer: {momentum: 0.9}}\n", "applies only with name: sgd or muon, found name: adamw"},
      {"train: {optimizer: {name: sgd, beta1: 0.9}}\n",
       "applies only with name: adamw or lion or muon, found name: sgd"},
      {"train: {optimizer: {name: adafactor, epsilon: 0.1}}\n", "applies only with name: adamw or muon"},
      {"train: {schedule: {floor: 0.1}}\n",
       "applies only with name: cosine or linear or one_cycle, found name: constant"},
      {"train: {schedule: {name: one_cycle, warmup_steps: 3}}\n", "found name: one_cycle"},
      {"train: {schedule: {name: cosine, gamma: 0.1}}\n", "applies only with name: step"},
      {"infer: {run: x}\n", "infer: applies only with kind: infer, found kind: train"},
  });
  EXPECT_THAT(error_of(infer_text("infer: {run: r}\ntrain: {epochs: 3}\n")).what(),
              HasSubstr("job.yaml:5:8: train: applies only with kind: train, found kind: infer"));
}

TEST_F(JobRefusalTest, DoesNotJudgeKeysUnderAChoiceThatIsWrong) {
  const std::string text = error_of(train_text("train: {optimizer: {name: sdg, momentum: 0.9, beta1: 0.9}}\n")).what();
  EXPECT_THAT(text, HasSubstr("did you mean 'sgd'?"));
  EXPECT_THAT(text, Not(HasSubstr("momentum")));
  EXPECT_THAT(text, Not(HasSubstr("beta1")));
  EXPECT_THAT(error_of("kind: tran\nname: x\ndata: {}\ntrain: {}\ninfer: {}\n").what(), Not(HasSubstr("data")));
}

TEST_F(JobRefusalTest, ChecksKeysAgainstEachOther) {
  expect_refused({
      {"train: {batch: 32, micro_batch: 33}\n", "train.micro_batch: 33 is larger than train.batch, which is 32"},
      {"model: {classes: 10}\ntrain: {top_k: 11}\n", "train.top_k: 11 is larger than model.classes, which is 10"},
      {"train: {schedule: {name: step}}\n", "train.schedule.milestones: missing"},
      {"train: {schedule: {name: step, milestones: [3, 3]}}\n", "must ascend, found 3 before 3"},
      {"train: {schedule: {name: step, milestones: [1, 5, 4]}}\n", "must ascend, found 5 before 4"},
      {"model: {name: layers}\n", "model.layers: model.name: layers needs at least one layer"},
      {"model: {name: layers, layers: []}\n", "needs at least one layer"},
      {"model: {name: layers, classes: 10, layers: [{type: flatten}, {type: dense, units: 9}]}\n",
       "job.yaml:4:83: model.layers[1].units: the last layer has 9 units for 10 classes"},
      {"train: {checkpoint: {keep_best: true}}\ndata: {}\n", "the key 'data' is there twice"},
  });
  const std::string keep =
      error_of(train_text("train: {checkpoint: {keep_best: true}}\n"), {"data.validation=0"}).what();
  EXPECT_THAT(keep, HasSubstr("train.checkpoint.keep_best: needs a validation split"));
  const std::string stop = error_of(train_text("train: {early_stop: {}}\n"), {"data.validation=0"}).what();
  EXPECT_THAT(stop, HasSubstr("train.early_stop: needs a validation split"));
  const std::string metric =
      error_of(train_text("train: {checkpoint: {best_metric: loss}}\n"), {"data.validation=0"}).what();
  EXPECT_THAT(metric, HasSubstr("train.checkpoint.best_metric: needs a validation split"));
}

TEST_F(JobRefusalTest, RefusesDataOfTwoForms) {
  const auto what = [&](const std::string& data) {
    return std::string(error_of("kind: train\nname: x\ndata: " + data + "\n").what());
  };
  EXPECT_THAT(what("{train: {file: images.idx, labels: labels.idx}}"),
              HasSubstr("data.train.labels: applies only to images"));
  EXPECT_THAT(what("{train: {images: images.idx, labels: labels.idx, targets: labels.idx}}"),
              HasSubstr("data.train.targets: applies only with `file`"));
  EXPECT_THAT(what("{train: {images: images.idx, labels: labels.idx}, table: {missing: error}}"),
              HasSubstr("data.table: applies only with `file`"));
  EXPECT_THAT(what("{train: {file: images.idx}, augment: {flip: true}}"),
              HasSubstr("data.augment: applies only to images"));
  EXPECT_THAT(what("{train: {file: images.idx}, test: {images: images.idx, labels: labels.idx}}"),
              HasSubstr("data.test.images: is of another kind than the training data"));
  EXPECT_THAT(what("{train: {file: images.idx}, table: {columns: [{name: a, type: number}, {name: a, type: ignore}]}}"),
              HasSubstr("data.table.columns[1].name: the column 'a' is there twice"));
  EXPECT_THAT(what("{train: {file: absent.csv}}"), HasSubstr("data.train.file: there is no file"));
  EXPECT_THAT(what("{train: {file: images.idx}, table: {columns: [{name: a}]}}"),
              HasSubstr("missing key 'data.table.columns[0].type'"));
}

TEST_F(JobRefusalTest, ListsAllProblemsInOneError) {
  const Error error = error_of(train_text("seed: x\nmodel: {nam: mlp}\ntrain:\n  epochs: 0\n  batch: 1.5\n"));
  EXPECT_EQ(error.place()->line, 4);
  for (const char* part : {"seed: expected", "job.yaml:5:9: unknown key 'nam'", "job.yaml:7:11: train.epochs",
                           "job.yaml:8:10: train.batch"}) {
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST_F(JobRefusalTest, NamesMissingKeys) {
  EXPECT_THAT(error_of("name: x\n").what(), HasSubstr("missing key 'kind'"));
  EXPECT_THAT(error_of("kind: train\n").what(), HasSubstr("missing key 'name'"));
  EXPECT_THAT(error_of("kind: train\nname: x\n").what(), HasSubstr("missing section 'data'"));
  EXPECT_THAT(error_of("kind: train\nname: x\ndata: {validation: 0.1}\n").what(),
              HasSubstr("missing section 'data.train'"));
  EXPECT_THAT(error_of("kind: train\nname: x\ndata: {train: {images: images.idx}}\n").what(),
              HasSubstr("job.yaml:3:15: missing key 'data.train.labels'"));
  EXPECT_THAT(error_of(train_text(), {"data.test.images=images.idx"}).what(),
              HasSubstr("missing key 'data.test.labels'"));
  EXPECT_THAT(error_of(infer_text()).what(), HasSubstr("missing section 'infer'"));
  EXPECT_THAT(error_of(infer_text("infer: {batch: 1}\n")).what(), HasSubstr("missing key 'infer.run'"));
  EXPECT_THAT(error_of(train_text("model: {name: layers, layers: [{type: conv}]}\n")).what(),
              HasSubstr("missing key 'model.layers[0].filters'"));
  EXPECT_THAT(error_of(train_text("model: {name: layers, layers: [{units: 3}]}\n")).what(),
              HasSubstr("missing key 'model.layers[0].type'"));
}

TEST_F(JobRefusalTest, RefusesNamesThatCannotBeFileNames) {
  for (const char* name : {"../up", "a/b", "-x", ".hidden", "a b", "\xC3\xA9", "''"}) {
    EXPECT_THAT(error_of(train_text(), {fmt::format("name={}", name)}).what(), HasSubstr("name")) << name;
  }
  EXPECT_THAT(error_of(train_text(), {"name=" + std::string(65, 'x')}).what(), HasSubstr("cannot be a job's name"));
  EXPECT_EQ(parse(train_text(), {"name=" + std::string(64, 'x')}).name.size(), 64u);
  EXPECT_EQ(parse(train_text(), {"name=A.b_c-9"}).name, "A.b_c-9");
}

TEST_F(JobRefusalTest, NamesTheDevicesThatThereAre) {
  EXPECT_EQ(parse(train_text("device: cuda\n")).device, "cuda");
  const std::string message = error_of(train_text("device: tpu\n")).message();
  EXPECT_THAT(message, HasSubstr("cpu"));
  EXPECT_THAT(message, HasSubstr("cuda, found the text 'tpu'"));
}

TEST_F(JobRefusalTest, NamesDataFilesThatAreMissing) {
  const Error missing = error_of(train_text(), {"data.train.labels=absent.idx"});
  EXPECT_EQ(missing.message(),
            fmt::format("data.train.labels: there is no file {}", (folder_ / "absent.idx").native()));
  EXPECT_THAT(missing.hint(), HasSubstr("job file's folder"));
  const std::string text = "kind: train\nname: x\ndata:\n  train:\n    images: no.idx\n    labels: labels.idx\n";
  EXPECT_THAT(error_of(text).what(), HasSubstr("job.yaml:5:13: data.train.images: there is no file"));
  const Error packaged = error_of(train_text(), {"data.train.images=/usr/share/datasets/fashion-mnist/absent.gz"});
  EXPECT_THAT(packaged.hint(), HasSubstr("Debian package dataset-fashion-mnist"));
  EXPECT_THAT(error_of(train_text(), {"data.train.images=."}).what(), HasSubstr("is not a regular file"));
  EXPECT_THAT(error_of(infer_text("infer: {run: r}\n"), {"data.labels=absent.idx"}).what(), HasSubstr("data.labels"));
}

TEST_F(JobRefusalTest, ChecksWherePredictionsGo) {
  EXPECT_THAT(error_of(infer_text("infer: {run: r, output: absent/x.csv}\n")).what(), HasSubstr("there is no folder"));
  EXPECT_THAT(error_of(infer_text("infer: {run: r, output: .}\n")).what(), HasSubstr("is a folder"));
  EXPECT_THAT(error_of(infer_text("infer: {run: r, output: x/}\n")).what(), HasSubstr("is a folder"));
  EXPECT_THAT(error_of(infer_text("infer: {run: r, format: parquet}\n")).what(), HasSubstr("one of csv, jsonl, npy"));
}

TEST_F(JobRefusalTest, RefusesAFolderWhoseNameCannotBeWritten) {
  const std::filesystem::path odd = folder_ / "\xff";
  std::filesystem::create_directory(odd);
  EXPECT_THROW(parse_job(train_text(), "job.yaml", {}, odd), Error);
}

TEST_F(JobRefusalTest, RefusesWhatIsNoJobFile) {
  for (const char* text : {"", "# nothing\n", "[]\n", "- kind: train\n", "train\n", "kind: train\nname: \"x\n",
                           "kind: train\n\tname: x\n", "kind: train\n---\nkind: infer\n",
                           "\x7f"
                           "ELF\x02\x01"}) {
    error_of(text);
  }
}

TEST_F(JobRefusalTest, EveryTruncationIsAJobOrAnErrorWithAPlace) {
  const std::string whole = train_text(
      "model: {name: cnn, channels: [8, 16]}\ntrain:\n  epochs: 12\n"
      "  optimizer: {name: sgd, lr: 0.1}\n  schedule:\n    name: step\n    milestones: [3, 6]\n");
  int read = 0;
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    try {
      parse(whole.substr(0, size));
      ++read;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::job) << error.what();
      EXPECT_TRUE(error.place().has_value()) << error.what();
    }
  }
  EXPECT_GT(read, 0);
}

}  // namespace
}  // namespace trivet
