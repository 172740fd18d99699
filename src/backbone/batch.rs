use tch::Tensor;

/// The input of one evaluation: distinct latents, distinct texts, and the rows that pair them.
///
/// What depends on the latent alone is computed once per latent, up to where the first text comes in, and keys and
/// values once per text; the rows meet in the attention.
pub struct Batch<'a> {
    noised: &'a Tensor,
    timesteps: &'a Tensor,
    text: &'a Tensor,
    latent_of: Pick,
    text_of: Pick,
    rows: i64,
}

impl<'a> Batch<'a> {
    /// Noised latents `[I, C, h, w]`, their timesteps `[I]` (int64), texts `[T, m, D]`, and for each row its latent
    /// and its text. Every latent and text must be used, in the order of first use.
    pub fn new(
        noised: &'a Tensor,
        timesteps: &'a Tensor,
        text: &'a Tensor,
        latent_of: &[usize],
        text_of: &[usize],
    ) -> Self {
        assert_eq!(latent_of.len(), text_of.len(), "every row has a latent and a text");
        Batch {
            latent_of: Pick::new(latent_of, noised),
            text_of: Pick::new(text_of, text),
            rows: latent_of.len() as i64,
            noised,
            timesteps,
            text,
        }
    }

    pub fn noised(&self) -> &Tensor {
        self.noised
    }

    pub fn timesteps(&self) -> &Tensor {
        self.timesteps
    }

    pub fn text(&self) -> &Tensor {
        self.text
    }

    /// `[I, …]` to `[B, …]`; what is by row already stays.
    pub fn by_row(&self, x: &Tensor) -> Tensor {
        if x.size()[0] == self.rows { x.shallow_clone() } else { self.latent_of.apply(x) }
    }

    /// `x` `[I, …]` or `[B, …]` beside `like`: by row if `like` is.
    pub fn beside(&self, x: &Tensor, like: &Tensor) -> Tensor {
        if x.size()[0] == like.size()[0] { x.shallow_clone() } else { self.by_row(x) }
    }

    /// `[T, …]` to `[B, …]`.
    pub fn text_by_row(&self, x: &Tensor) -> Tensor {
        self.text_of.apply(x)
    }
}

/// Rows of a tensor by index.
enum Pick {
    /// Row `i` is entry `i`.
    All,
    /// Every row is the only entry.
    One(i64),
    Index(Tensor),
}

impl Pick {
    fn new(index: &[usize], of: &Tensor) -> Self {
        let entries = of.size()[0] as usize;
        debug_assert_eq!(index.iter().max(), Some(&(entries - 1)), "every entry is used");
        if entries == index.len() {
            debug_assert!(index.iter().enumerate().all(|(i, &entry)| i == entry), "entries in order of first use");
            return Pick::All;
        }
        if entries == 1 {
            return Pick::One(index.len() as i64);
        }
        let index: Vec<i64> = index.iter().map(|&entry| entry as i64).collect();
        Pick::Index(Tensor::from_slice(&index).to_device(of.device()))
    }

    fn apply(&self, x: &Tensor) -> Tensor {
        match self {
            Pick::All => x.shallow_clone(),
            Pick::One(rows) => {
                let mut size = x.size();
                size[0] = *rows;
                x.expand(size, false)
            }
            Pick::Index(index) => x.index_select(0, index),
        }
    }
}
