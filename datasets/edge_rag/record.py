"""Record vectors of this corpus for machines without the encoder: `python datasets/edge_rag/record.py`."""

import numpy as np

from labkit.agents.retrieval import CORPUS, read_corpus, sections, sentences
from labkit.engines.onnx_encoder import Encoder

documents, questions = read_corpus()
passages = sections(documents)
texts = [
    *map(str, passages),
    *(s for p in passages for s in sentences(p.text)),
    *(q.question for q in questions),
]
texts = list(dict.fromkeys(texts))
vectors, _ = Encoder("fp32").embed(texts)
scaled = np.round(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)
np.savez_compressed(CORPUS / "minilm.npz", texts=np.array(texts), vectors=scaled)
