"""The paper's tables, transcribed a second time from its text, line by line as they stand there."""

from __future__ import annotations

#: table -> lines "label: figures", in the paper's order of columns
TABLES: dict[str, str] = {
    "table1": """
        Zero-shot: CLIP: 78.87 80.59 58.60 74.20 68.10 82.79 66.31 4.90 17.55
        Zero-shot: BLIP2: 80.96 84.07 64.14 80.65 75.28 89.20 67.73 6.73 20.49
        Zero-shot: OFA: 80.79 82.49 60.89 76.28 72.05 88.52 66.01 6.37 19.57
        Zero-shot: Diffusion Classifier: 79.85 82.41 63.28 77.05 73.02 88.60 67.10 5.95 19.64
        Zero-shot: Discffusion: 80.62 84.74 63.27 78.11 73.07 89.16 67.51 6.82 20.43
        Few-shot: CLIP (Fine-tuning): 80.77 82.49 60.50 76.10 69.88 84.57 66.94 5.10 17.86
        Few-shot: CLIP (Prompt Learning): 78.88 79.51 60.41 74.24 69.40 84.48 67.32 5.16 18.03
        Few-shot: BLIP2: 81.12 84.23 64.30 80.81 76.43 90.35 71.23 7.23 20.99
        Few-shot: OFA: 80.80 82.50 60.90 76.29 73.31 89.78 66.45 6.81 20.01
        Few-shot: Diffusion Classifier: 80.48 82.52 63.42 77.50 73.40 89.83 68.94 6.78 19.88
        Few-shot: Discffusion: 80.78 84.90 63.43 78.27 75.87 89.96 70.60 6.91 20.52
        Few-shot: Discffusion (w/ pre-training): 80.98 84.97 65.17 80.89 76.91 90.42 71.04 7.25 20.83
    """,
    "table2": """
        Zero-shot: CLIP: 30.68 11.91 8.36 67.82 75.67 67.11 70.18
        Zero-shot: BLIP2: 31.78 12.37 9.02 79.00 84.05 73.55 78.86
        Zero-shot: Diffusion Classifier: 37.75 12.25 9.00 64.19 75.98 66.99 68.23
        Zero-shot: Discffusion: 34.11 13.38 11.04 73.12 79.58 69.48 74.06
        MS-COCO: CLIP: 31.50 12.00 9.25 67.90 75.75 68.15 70.73
        MS-COCO: BLIP2: 28.25 13.00 9.09 79.64 84.70 73.95 79.97
        MS-COCO: Diffusion Classifier: 26.76 10.00 8.75 65.90 76.81 67.14 68.94
        MS-COCO: Discffusion: 35.75 14.50 12.75 79.80 85.90 74.58 80.52
    """,
    "table3": """
        Cosine similarity: 50.7 42.5 30.5 43.0
        Maximum (column-wise): 58.8 59.5 40.4 57.7
        Maximum (row-wise): 57.8 59.0 40.1 57.0
        LogSumExp: 78.9 80.1 61.2 75.4
        Noise level 0.4: 75.5 77.5 58.4 72.5
        Noise level 0.8: 75.7 77.7 58.5 72.7
        Ensembling: 76.1 78.0 59.2 73.1
    """,
    "table4": """
        CLIP (Fine-tuning), 224x224: 80.77 82.49 60.50 76.10
        CLIP (Prompt Learning), 224x224: 78.88 79.51 60.41 74.24
        Discffusion, 224x224: 80.81 83.17 63.51 78.11
        Discffusion, 512x512: 80.97 84.32 63.53 78.19
    """,
    "table5": """
        Discffusion: 34.00 13.75 10.50 80.78 84.90 63.43 78.27
        Discffusion (LCM): 34.75 15.75 11.00 79.84 83.33 60.08 73.47
    """,
    "table6": """
        CLIP-embedding: 80.77 82.49 60.50 76.10 69.88 84.57
        Discffusion-embedding: 78.43 76.25 57.68 73.27 66.14 84.61
    """,
    "table7": """
        5 %: CLIP (Fine-tuning): 80.77 82.49 60.50 76.10
        0.5 %: CLIP (Fine-tuning): 74.40 75.10 57.90 69.80
        5 %: CLIP (Prompt Learning): 78.88 79.51 60.41 74.24
        0.5 %: CLIP (Prompt Learning): 74.55 75.15 57.79 69.83
        5 %: Discffusion: 80.78 84.90 63.43 78.27
        0.5 %: Discffusion: 78.65 81.40 66.68 75.91
    """,
    "table8": """
        Discffusion: 81.74 91.96
        Discffusion (Masking Elements): 43.60 54.78
    """,
    "table9": """
        Discffusion: 80.78 84.90 63.43 78.27
        Discffusion (First Time Step Sampling): 59.93 54.24 51.68 55.45
        Discffusion (Last Time Step Sampling): 76.78 80.90 59.43 74.27
    """,
    "table10": """
        CLIP: 0.22±0.02 0.08±0.02 0.05±0.02 0.36±0.01 0.12±0.02 0.08±0.02 0.81±0.03 0.45±0.03 0.42±0.04
        BLIP2: 0.22±0.01 0.05±0.01 0.04±0.01 0.35±0.01 0.20±0.01 0.13±0.01 0.62±0.04 0.37±0.02 0.37±0.03
        Discffusion: 0.25±0.01 0.10±0.02 0.07±0.03 0.40±0.01 0.13±0.01 0.12±0.02 0.80±0.02 0.46±0.02 0.42±0.03
    """,
    "table11": """
        Discffusion: 80.78 84.90 63.43 78.27
        Discffusion (Cross-Entropy Loss): 75.77 81.42 60.05 72.01
        Discffusion (Diffusion Loss): 65.58 59.83 54.42 60.96
    """,
    "table12": """
        Stable Diffusion: 23.3 19.7 26.9 17.5
        Discffusion: 24.1 19.5 26.0 18.1
    """,
}
