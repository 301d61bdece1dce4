"""The tasks that come with softprompt. Their inputs follow T5: a field's name before its text, no name of the task.

References:
    Raffel et al. 2020, appendix D; Lester et al. 2021, §3 (the task's name is left out).
"""

from softprompt.tasks.builtin.ag_news import AG_NEWS
from softprompt.tasks.builtin.amazon import AMAZON
from softprompt.tasks.builtin.boolq import BOOLQ
from softprompt.tasks.builtin.cb import CB
from softprompt.tasks.builtin.clinc150 import CLINC150_DOMAINS
from softprompt.tasks.builtin.conll2003 import CONLL2003
from softprompt.tasks.builtin.copa import COPA
from softprompt.tasks.builtin.dart import DART
from softprompt.tasks.builtin.e2e import E2E, E2E_SAMPLE
from softprompt.tasks.builtin.imdb import IMDB_ORIGINAL, IMDB_REVISED
from softprompt.tasks.builtin.mrpc import MRPC
from softprompt.tasks.builtin.mrqa import MRQA
from softprompt.tasks.builtin.multirc import MULTIRC
from softprompt.tasks.builtin.qqp import QQP
from softprompt.tasks.builtin.record import RECORD
from softprompt.tasks.builtin.rte import RTE
from softprompt.tasks.builtin.sentence_polarity import SENTENCE_POLARITY
from softprompt.tasks.builtin.squad import QED_NQ, SQUAD, SQUADSHIFTS
from softprompt.tasks.builtin.sst2 import SST2
from softprompt.tasks.builtin.subj import SUBJ
from softprompt.tasks.builtin.summaries import CNN_DAILYMAIL, SCITLDR, XSUM
from softprompt.tasks.builtin.trec import TREC
from softprompt.tasks.builtin.webnlg import WEBNLG_2017
from softprompt.tasks.builtin.wic import WIC
from softprompt.tasks.builtin.wsc import WSC
from softprompt.tasks.builtin.xsum_sections import XSUM_NEWS_TO_SPORTS

__all__ = ["BUILT_IN"]

BUILT_IN = (
    AG_NEWS,
    *AMAZON,
    BOOLQ,
    CB,
    CLINC150_DOMAINS,
    CNN_DAILYMAIL,
    CONLL2003,
    COPA,
    DART,
    E2E,
    E2E_SAMPLE,
    IMDB_ORIGINAL,
    IMDB_REVISED,
    MRPC,
    *MRQA,
    MULTIRC,
    QED_NQ,
    QQP,
    RECORD,
    RTE,
    SCITLDR,
    SENTENCE_POLARITY,
    SQUAD,
    *SQUADSHIFTS,
    SST2,
    SUBJ,
    TREC,
    WEBNLG_2017,
    WIC,
    WSC,
    XSUM,
    XSUM_NEWS_TO_SPORTS,
)
