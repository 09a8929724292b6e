"""The inner loop: write rules, and the memory that modifies itself."""

from nllab.memory.rules import MLPWeights as MLPWeights
from nllab.memory.rules import delta_write as delta_write
from nllab.memory.rules import dgd_write as dgd_write
from nllab.memory.rules import hebbian_write as hebbian_write
from nllab.memory.rules import mlp_read as mlp_read
from nllab.memory.rules import titans_write as titans_write
from nllab.memory.titans import MemoryState as MemoryState
from nllab.memory.titans import SelfModifyingTitans as SelfModifyingTitans
from nllab.memory.titans import detach as detach
