#include "convae/reporting/run_views.h"
#include "convae/training/train.h"

namespace convae {

TrainResult train(TrainJob job, const Callbacks& callbacks) {
  RunViews views(job.run.report, job.run.tensorboard);
  return train(std::move(job), callbacks, views);
}

}  // namespace convae
