import sys
from pathlib import Path

import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # tests/reference.py, from tests in subfolders too

settings.register_profile("pythermo", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("pythermo")
torch.set_num_threads(1)  # small tensors: a second thread costs more than it gains
