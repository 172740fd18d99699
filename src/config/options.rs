use super::{Attribution, DenoisingError, MapKind, Method, Pooling, Resize, TokenSet, Truncate};

/// One option as users see it.
#[derive(Debug, serde::Serialize)]
pub struct OptionSpec {
    pub name: &'static str,
    /// `choice`, `choice_or_list`, `bool`, `int`, `float`, `int_list`, `float_list`, `range` or `int_or_auto`.
    pub kind: &'static str,
    /// The choices, where there are some.
    pub choices: &'static [&'static str],
    pub help: &'static str,
}

/// Every option of a score, in order.
pub fn options() -> Vec<OptionSpec> {
    let option = |name, kind, choices, help| OptionSpec { name, kind, choices, help };
    vec![
        option("method", "choice", Method::NAMES, "What the score is made of."),
        option("denoising_weight", "float", &[], "Weight of the denoising term where method is combined; 0 or more."),
        option("denoising_error", "choice", DenoisingError::NAMES, "How far a prediction is from its target."),
        option("unconditional", "bool", &[], "Whether the denoising error is compared with that for the empty text."),
        option("map", "choice", MapKind::NAMES, "Which cross-attention map is pooled."),
        option("pooling", "choice", Pooling::NAMES, "How a map becomes a number."),
        option("lambda_", "float", &[], "Sharpness of LogSumExp pooling; 1e-6 to 1e6."),
        option("tokens", "choice", TokenSet::NAMES, "Which text tokens are pooled: all, or the prompt's own."),
        option(
            "layers",
            "choice_or_list",
            &["all", "down", "mid", "up", "last_blocks", "last(n)"],
            "Which cross-attention layers count; or a list of layers such as down.0.1, mid.0, up.3.2.",
        ),
        option(
            "heads",
            "choice_or_list",
            &["mean", "attributed", "learned"],
            "How the heads of a layer are averaged; or a list of head indices.",
        ),
        option("attribution", "choice", Attribution::NAMES, "How heads are weighted where heads is attributed."),
        option("attribution_steps", "int", &[], "Steps of the integral where attribution is integrated; 1 to 1000."),
        option(
            "steps",
            "int",
            &[],
            "Number of timesteps that are averaged: evenly spaced noise levels of noise_range.",
        ),
        option(
            "noise_range",
            "range",
            &[],
            "Lowest and highest noise level that steps are spread over; none: the model's whole DDIM schedule.",
        ),
        option("timesteps", "int_list", &[], "Timesteps that are averaged, instead of steps; 0 is clean."),
        option("noise_levels", "float_list", &[], "Noise levels between 0 and 1 that are averaged, instead of steps."),
        option(
            "resolution",
            "int",
            &[],
            "Side of the square that images are brought to, pixels; default: the model's own.",
        ),
        option("via", "int", &[], "Side that images are brought to first, pixels (Table 1 of the paper)."),
        option("resize", "choice", Resize::NAMES, "How images become square."),
        option("batch_size", "int_or_auto", &["auto"], "Evaluations of the network at a time; never changes a score."),
        option("truncate", "choice", Truncate::NAMES, "What to do with texts longer than the model reads."),
        option("seed", "int", &[], "Seed of the noise; 0 or more."),
    ]
}
