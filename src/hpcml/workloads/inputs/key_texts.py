"""The texts of keys that several workloads have."""

SCORING = "scikit-learn's name of a scorer, a list of names, or your own as mymodule.my_scorer. null: the model's score"
BLOCK_SCORING = (
    "accuracy, r2 or another scorer that sums up over blocks, or your own as mymodule.my_scorer. "
    "null: accuracy or r2, if there is a target. false: no score"
)
BLOCK_SIZE = "Rows of a block, for data in memory; data in blocks has its own data.block_size. null: 100,000"
TEST_SIZE = "Share of the samples held out for the test score. null or 0: none"
STRATIFY = "Whether the held-out set has the classes' proportions; for classifiers"
SHUFFLE = (
    "Whether to shuffle the samples before holding some out. false: hold out the last ones, as time series need. "
    "null: shuffle unless a splitter depends on the order, such as TimeSeriesSplit"
)
