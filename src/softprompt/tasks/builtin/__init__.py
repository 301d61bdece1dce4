"""The tasks that come with softprompt. Their inputs follow T5: a field's name before its text, no name of the task.

References:
    Raffel et al. 2020, appendix D; Lester et al. 2021, §2 (the task's name is left out).
"""

from softprompt.tasks.builtin.boolq import BOOLQ
from softprompt.tasks.builtin.cb import CB
from softprompt.tasks.builtin.clinc150 import CLINC150_DOMAINS
from softprompt.tasks.builtin.copa import COPA
from softprompt.tasks.builtin.e2e import E2E, E2E_SAMPLE
from softprompt.tasks.builtin.mrpc import MRPC
from softprompt.tasks.builtin.multirc import MULTIRC
from softprompt.tasks.builtin.qqp import QQP
from softprompt.tasks.builtin.record import RECORD
from softprompt.tasks.builtin.rte import RTE
from softprompt.tasks.builtin.sentence_polarity import SENTENCE_POLARITY
from softprompt.tasks.builtin.sst2 import SST2
from softprompt.tasks.builtin.subj import SUBJ
from softprompt.tasks.builtin.wic import WIC
from softprompt.tasks.builtin.wsc import WSC

__all__ = ["BUILT_IN"]

BUILT_IN = (
    BOOLQ, CB, CLINC150_DOMAINS, COPA, E2E, E2E_SAMPLE, MRPC, MULTIRC, QQP, RECORD, RTE, SENTENCE_POLARITY, SST2, SUBJ,
    WIC, WSC,
)  # fmt: skip
