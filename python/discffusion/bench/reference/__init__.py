"""The method in plain PyTorch on the objects of diffusers and transformers: Stable Diffusion 1 to 3.5 and XL.

It shares no code with the core. The parity tests compare the core with it; the other implementations of the benchmark
and the recipes of the bundled models are built from its parts. Needs the extra ``bench``.

* :mod:`.layers`: the names of cross-attention layers;
* :mod:`.loading`: the parts of a checkpoint folder;
* :mod:`.conditioning`: what the UNet reads of a text;
* :mod:`.processors`: attention processors that record queries and keys, or pool maps on the way;
* :mod:`.pooling`: maps, their pooling, weights of heads, the choice of layers (Eq. 4, Eq. 7 and the ablations);
* :mod:`.model`: one image, one text, one timestep at a time;
* :mod:`.joint`: the same of Stable Diffusion 3, whose attention is joint;
* :mod:`.scores`: scores of pairs.
"""
