"""``ecgscan-teacher embed``: the teacher's embeddings of records, in one file that students learn from.

``targets.npz`` (read with ``load_targets``; unit vectors of the teacher's shared space are float32, d long):

| array | shape | holds |
|---|---|---|
| record | (n,) str | the record's name, as ``ecg.records.RecordRef.name`` gives it |
| source | (n,) str | its kind, such as "ptbxl" |
| fold | (n,) int64 | its fold, 0 where there is none |
| codes, superclasses | (n,) str | SCP codes and superclasses, joined by spaces |
| image | (n, v, d) | embeddings of v views of the record's page: view 0 a clean 3x4+1 print, the others photos |
| signal | (n, d) | embedding of the whole recording's signal: label-free target for any page of it |
| printed | (n, d) | embedding of the signal that a 3x4+1 page prints of it |
| sentence | (m,) str | every prompt's sentence |
| sentence_concept | (m,) str | the SCP code or superclass that it stands for |
| text | (m, d) | its embedding |
| concept | (k,) str | SCP codes, then the five superclasses |
| concept_vector | (k, d) | the unit mean of a concept's sentences: score = embedding @ concept_vector |
| teacher | () str | sha256 of the run's teacher.safetensors |

Lost gains are drawn without the record's labels, from its name: the same in every run.  For pages that aren't here
(synthetic hearts, other prints), ``teacher.train.load_teacher(run)`` gives ``embed_pages`` (B, 1, 768, 768) uint8 and
``embed_signals`` (mv, known: (B, 12, 1000) at 100 Hz).
"""
