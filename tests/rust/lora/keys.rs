//! What keys mean, by examples from files of every kind.

use discffusion::deltas::lora::{Half, parse};

use super::{BLOCK, KOHYA};

#[test]
fn keys_of_every_layout() {
    use Half::{Alpha, Down, Up};
    let (q, k, out) = ("attn1.to_q", "attn2.to_k", "attn2.to_out.0");
    for (key, module, half) in [
        // The paper's authors, and diffusers until 0.17.
        (format!("{BLOCK}.attn2.processor.to_k_lora.down.weight"), k, Down),
        (format!("{BLOCK}.attn2.processor.to_out_lora.up.weight"), out, Up),
        (format!("unet.{BLOCK}.attn1.processor.to_q_lora.up.weight"), q, Up),
        (format!("{BLOCK}.attn2.to_k_lora.down.weight"), k, Down),
        (format!("unet.{BLOCK}.attn2.processor.to_k_lora.alpha"), k, Alpha),
        // diffusers from 0.17, and today.
        (format!("unet.{BLOCK}.attn2.to_k.lora.down.weight"), k, Down),
        (format!("unet.{BLOCK}.attn2.to_out.0.lora.up.weight"), out, Up),
        (format!("unet.{BLOCK}.attn2.processor.to_k.lora.down.weight"), k, Down),
        (format!("unet.{BLOCK}.attn2.to_k.lora_A.weight"), k, Down),
        (format!("{BLOCK}.attn2.to_out.0.lora_B.weight"), out, Up),
        (format!("unet.{BLOCK}.attn1.to_q.lora_B.default_0.weight"), q, Up),
        (format!("unet.{BLOCK}.attn2.to_k.alpha"), k, Alpha),
        // peft.
        (format!("base_model.model.{BLOCK}.attn2.to_k.lora_A.weight"), k, Down),
        (format!("base_model.model.unet.{BLOCK}.attn2.to_out.0.lora_B.default.weight"), out, Up),
        // kohya.
        (format!("{KOHYA}_attn2_to_k.lora_down.weight"), k, Down),
        (format!("{KOHYA}_attn1_to_q.lora_up.weight"), q, Up),
        (format!("{KOHYA}_attn2_to_out_0.lora_up.weight"), out, Up),
        (format!("{KOHYA}_attn2_to_out_0.alpha"), out, Alpha),
    ] {
        assert_eq!(parse(&key), Some((format!("{BLOCK}.{module}"), half)), "{key}");
    }
    for (key, path) in [
        (
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v.lora_down.weight",
            "mid_block.attentions.0.transformer_blocks.0.attn2.to_v",
        ),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight",
            "mid_block.attentions.0.transformer_blocks.0.attn2.to_v",
        ),
        (
            "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_q.lora_down.weight",
            "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_q",
        ),
    ] {
        assert_eq!(parse(key), Some((path.to_owned(), Half::Down)), "{key}");
    }
}

#[test]
fn keys_of_joint_attention() {
    let path = |projection: &str| format!("transformer_blocks.11.attn.{projection}");
    for projection in
        ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"].map(path)
    {
        let of = |key: String, half| assert_eq!(parse(&key), Some((projection.clone(), half)), "{key}");
        of(format!("transformer.{projection}.lora_A.weight"), Half::Down);
        of(format!("{projection}.lora_B.default.weight"), Half::Up);
        of(format!("base_model.model.{projection}.lora_B.weight"), Half::Up);
        of(format!("transformer.{projection}.alpha"), Half::Alpha);
    }
}

#[test]
fn keys_that_are_none_of_ours() {
    for key in [
        format!("unet.{BLOCK}.ff.net.0.proj.lora_A.weight"),
        format!("{KOHYA}_ff_net_0_proj.lora_down.weight"),
        format!("{KOHYA}_attn2_to_k.dora_scale"),
        format!("{KOHYA}_attn2_to_k.hada_w1_a"),
        format!("{KOHYA}_attn2_to_k.lora_mid.weight"),
        format!("unet.{BLOCK}.attn2.to_k.lora_magnitude_vector"),
        format!("unet.{BLOCK}.attn2.to_k.lora_B.bias"),
        format!("unet.{BLOCK}.attn2.to_k.weight"),
        format!("unet.{BLOCK}.attn2.to_out.lora_A.weight"),
        format!("unet.{BLOCK}.attn3.to_k.lora_A.weight"),
        format!("unet.{BLOCK}.attn2.to_z.lora_A.weight"),
        format!("{BLOCK}.attn2.processor.to_k_lora.down.bias"),
        format!("text_encoder.{BLOCK}.attn2.to_k.lora_A.weight"),
        "unet.down_blocks.0.attentions.1.proj_in.lora_A.weight".into(),
        "unet.down_blocks.x.attentions.1.transformer_blocks.0.attn2.to_k.lora_A.weight".into(),
        "unet.side_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k.lora_A.weight".into(),
        "unet.transformer_blocks.0.attn2.to_k.lora_A.weight".into(),
        "transformer.transformer_blocks.0.attn2.to_k.lora_A.weight".into(),
        "transformer.transformer_blocks.0.ff.net.0.proj.lora_A.weight".into(),
        "transformer.transformer_blocks.0.norm1.linear.lora_A.weight".into(),
        "transformer.transformer_blocks.x.attn.to_k.lora_A.weight".into(),
        "transformer.transformer_blocks.0.attn.add_z_proj.lora_A.weight".into(),
        "transformer.transformer_blocks.0.attn".into(),
        "text_encoder_2.transformer_blocks.0.attn.to_k.lora_A.weight".into(),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight".into(),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight".into(),
        "lora_unet_".into(),
        "".into(),
        "attn2".into(),
    ] {
        assert_eq!(parse(&key), None, "{key}");
    }
}
