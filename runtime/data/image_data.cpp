#include "trivet/data/image_data.h"

#include "trivet/base/error.h"
#include "trivet/base/hash.h"
#include "trivet/formats/idx.h"

namespace trivet {
namespace {

void update(Sha256& digest, const IdxArray& array) {
  digest.update(idx_header(array.shape));
  array.bytes.for_each_piece([&](std::span<const std::byte> piece) { digest.update(piece); });
}

void load_labels(const DataFiles& source, Sha256& digest, ImageData& data) {
  const IdxArray labels = read_idx_labels(source.labels);
  if (labels.shape[0] != data.count) {
    throw Error(ErrorCode::data,
                fmt::format("{} holds {} images, {} holds {} labels, expected as many", source.images.string(),
                            data.count, source.labels.string(), labels.shape[0]),
                "give the two files of the same set");
  }
  update(digest, labels);
  data.labels.reserve(labels.bytes.size());
  labels.bytes.for_each_piece([&](std::span<const std::byte> piece) {
    for (const std::byte label : piece) data.labels.push_back(std::to_integer<std::int32_t>(label));
  });
  data.classes = std::int64_t{*std::max_element(data.labels.begin(), data.labels.end())} + 1;
}

}  // namespace

ImageData load_images(const DataFiles& source) {
  IdxArray images = read_idx_images(source.images);
  Sha256 digest;
  update(digest, images);
  ImageData data;
  data.count = images.shape[0];
  data.height = images.shape[1];
  data.width = images.shape[2];
  data.channels = images.shape.size() == 4 ? images.shape[3] : 1;
  data.pixels = std::move(images.bytes);
  if (!source.labels.empty()) load_labels(source, digest, data);
  data.digest = digest.hex();
  return data;
}

}  // namespace trivet
