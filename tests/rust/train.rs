//! Order, comparisons and learning rate of training.

use approx::assert_relative_eq;
use discffusion::config::{Loss, NegativeKinds, RateSchedule, TrainConfig};
use discffusion::noise::Time;
use discffusion::train::cache::Cache;
use discffusion::train::loss::Comparison;
use discffusion::train::{
    ComparedPairs, Labels, LossScale, Memory, Relation, Temperature, order, relations, texts_of_others,
};

#[test]
fn an_order_is_a_permutation_of_seed_and_epoch() {
    for count in [0, 1, 2, 17, 1000] {
        let mut all = order(3, 5, count);
        assert_eq!(all, order(3, 5, count));
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }
    assert_ne!(order(3, 5, 100), order(3, 6, 100));
    assert_ne!(order(3, 5, 100), order(4, 5, 100));
    // Pinned: a run that was begun with an earlier release goes on in the same order.
    assert_eq!(order(0, 0, 10), [0, 5, 7, 3, 4, 9, 1, 8, 6, 2]);
}

#[test]
fn every_position_is_as_likely() {
    let mut counts = [0; 5];
    (0..5000).for_each(|epoch| counts[order(1, epoch, 5)[0]] += 1);
    // Mean 1000, standard deviation 28: five of them.
    assert!(counts.iter().all(|count| (860..1140).contains(count)), "{counts:?}");
}

const M: Relation = Relation::Match;
const N: Relation = Relation::Mismatch;
const U: Relation = Relation::Unknown;

#[test]
fn matches_are_compared_with_mismatches_of_the_same_text_or_image() {
    let both = ComparedPairs::new(&[vec![M, N], vec![N, M]], NegativeKinds::Both);
    assert_eq!(both.pairs, [(0, 0), (1, 0), (0, 1), (1, 1)]);
    let comparison =
        |positive, image, text| Comparison { positive, other_images: vec![image], other_texts: vec![text] };
    assert_eq!(both.comparisons, [comparison(0, 1, 2), comparison(3, 2, 1)]);
    let texts = ComparedPairs::new(&[vec![M, N], vec![N, M]], NegativeKinds::Text);
    assert!(texts.comparisons.iter().all(|comparison| comparison.other_images.is_empty()));
    assert_eq!(texts.pairs.len(), 4);
}

#[test]
fn what_is_not_needed_is_not_scored() {
    let one_text = ComparedPairs::new(&[vec![M], vec![N], vec![U]], NegativeKinds::Both);
    assert_eq!(one_text.pairs, [(0, 0), (1, 0)]);
    // A second matching text is a positive of its own, never a negative.
    let two_texts = ComparedPairs::new(&[vec![M, M, N]], NegativeKinds::Both);
    assert_eq!(two_texts.comparisons.len(), 2);
    assert!(two_texts.comparisons.iter().all(|comparison| comparison.other_texts == [1]));
    // Nothing to compare with.
    assert!(ComparedPairs::new(&[vec![M, M]], NegativeKinds::Both).pairs.is_empty());
    assert!(ComparedPairs::new(&[vec![M, N]], NegativeKinds::Image).pairs.is_empty());
}

#[test]
fn the_learning_rate_warms_up_and_falls() {
    let options = TrainConfig { learning_rate: 2.0, warmup_steps: 4, ..TrainConfig::default() };
    let rates: Vec<f64> = (0..6).map(|step| options.rate(step, 12)).collect();
    assert_eq!(rates, [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]);
    let cosine = TrainConfig { schedule: RateSchedule::Cosine, ..options };
    assert_relative_eq!(cosine.rate(3, 12), 2.0);
    assert_relative_eq!(cosine.rate(4, 12), 2.0);
    assert_relative_eq!(cosine.rate(8, 12), 1.0, max_relative = 1e-12);
    assert!(cosine.rate(12, 12).abs() < 1e-12);
    // The last step still learns: transformers' get_cosine_schedule_with_warmup gives (1 + cos(7π/8)) / 2 of the rate.
    assert_relative_eq!(cosine.rate(11, 12), 0.076_120_467_488_713_25, max_relative = 1e-12);
    // Steps beyond the plan do not make it rise again.
    assert!(cosine.rate(20, 12).abs() < 1e-12);
}

#[test]
fn options_pass_through_json() {
    let options =
        TrainConfig { rank: Some(4), gradient_clip: Some(0.1), seed: (1 << 63) - 1, ..TrainConfig::default() };
    assert_eq!(TrainConfig::from_json(&options.to_json()).unwrap(), options);
    for (bad, named) in [
        (r#"{"margin": -1}"#, "margin"),
        (r#"{"temperature": 0}"#, "temperature"),
        (r#"{"loss": "hinge"}"#, "loss"),
        (r#"{"rank": 0}"#, "rank"),
        (r#"{"in_batch": 1}"#, "in_batch"),
        (r#"{"gradient_clip": 0}"#, "gradient_clip"),
        (r#"{"learning_rate": 1e999}"#, "options"),
        (r#"{"lr": 1}"#, "lr"),
        (r#"{"in_batch": true, "accumulate": 2}"#, "accumulate"),
        (r#"{"in_batch": true, "batch_texts": 2}"#, "batch_texts"),
        (r#"{"negative_kinds": "image", "batch_texts": 2}"#, "batch_texts"),
        (r#"{"temperature_schedule": "cosine"}"#, "temperature_schedule"),
    ] {
        let error = TrainConfig::from_json(bad).unwrap_err().to_string();
        assert!(error.contains(named), "{bad}: {error}");
    }
}

#[test]
fn an_image_that_is_in_two_items_is_no_mismatch_of_its_other_captions() {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
    let (dog, pet, cat) = (texts(&["a dog"]), texts(&["a brown pet"]), texts(&["a cat"]));
    let yes = [vec![true]];
    let item = |image_hashes, texts| Labels { image_hashes, texts, matches: &yes };
    // Two captions of one photograph as two items, and another photograph.
    let found = relations(&[item(&[7], &dog), item(&[7], &pet), item(&[8], &cat)]);
    assert!(found == [vec![M, U, N], vec![U, M, N], vec![N, N, M]]);
    // What a third item says of the same image and text counts too.
    let both = texts(&["a dog", "a brown pet"]);
    let all = [vec![true, true]];
    let third = Labels { image_hashes: &[9], texts: &both, matches: &all };
    let found = relations(&[item(&[9], &dog), item(&[8], &pet), third]);
    assert!(found[0] == [M, U, U, U] && found[1] == [N, M, N, U]);
    // An item's own word for its own images and texts stands.
    let no = [vec![true], vec![false]];
    let own = Labels { image_hashes: &[7, 8], texts: &dog, matches: &no };
    assert!(relations(&[own, item(&[8], &dog)])[1] == [N, U]);
}

#[test]
fn a_text_that_may_describe_an_image_is_no_negative() {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
    let (own, other, third) = (texts(&["a dog", "a cat"]), texts(&["a cat", "a bird"]), texts(&["a pet", "a bird"]));
    let (one, two) = ([vec![true, false]], [vec![true, true]]);
    let item = |image_hashes, texts, matches| Labels { image_hashes, texts, matches };
    let items = [item(&[7], &own, &one), item(&[8], &other, &one), item(&[9], &third, &two)];
    // "a cat" is the item's own mismatch already, and "a bird" comes once.
    assert_eq!(texts_of_others(&items, 0), [(1, 1), (2, 0)]);
    assert_eq!(texts_of_others(&items, 1), [(0, 0), (2, 0)]);
    // Another item says that "a pet" describes the same image.
    let items = [item(&[7], &own, &one), item(&[8], &other, &one), item(&[7], &third, &one)];
    assert_eq!(texts_of_others(&items, 0), [(1, 1)]);
}

#[test]
fn a_prior_counts_where_texts_are_compared() {
    let of = |relations: &[Vec<Relation>], kinds, loss| ComparedPairs::new(relations, kinds).texts_with_prior(loss);
    let square = [vec![M, N, U], vec![N, M, N]];
    assert_eq!(of(&square, NegativeKinds::Both, Loss::Triplet), [0, 1, 2]);
    assert_eq!(of(&square, NegativeKinds::Text, Loss::CrossEntropy), [0, 1, 2]);
    assert!(of(&square, NegativeKinds::Image, Loss::Triplet).is_empty());
    // Each pair is judged by itself.
    assert_eq!(of(&square, NegativeKinds::Image, Loss::BinaryCrossEntropy), [0, 1]);
    assert!(of(&square, NegativeKinds::Both, Loss::Diffusion).is_empty());
    // The third text is compared with no other.
    assert_eq!(of(&[vec![M, N, U], vec![U, U, M], vec![U, U, N]], NegativeKinds::Both, Loss::Triplet), [0, 1]);
}

#[test]
fn a_temperature_is_in_proportion_to_the_differences_of_its_time() {
    let found = Temperature::of_differences(&[(100.0, 0.02), (300.0, 0.1), (700.0, 0.0), (800.0, 0.08)], None);
    // Their mean is 0.05, and a typical difference becomes 0.2.
    assert_relative_eq!(found.value, 0.25);
    for (time, factor) in [(0.0, 0.4), (100.0, 0.4), (200.0, 1.2), (300.0, 2.0), (800.0, 1.6), (999.0, 1.6)] {
        assert_relative_eq!(found.factor(Time(time)), factor, max_relative = 1e-12);
    }
    // Where nothing differs, noise is not enlarged.
    assert_relative_eq!(found.factor(Time(700.0)), 0.1);
    assert_eq!(Temperature::of_differences(&[(100.0, 0.5)], Some(3.0)).value, 3.0);
    let none = Temperature::of_differences(&[(100.0, 0.0)], None);
    assert_eq!((none.value, none.factor(Time(5.0))), (1.0, 1.0));
}

#[test]
fn a_loss_scale_that_was_halved_grows_again() {
    let mut scale = LossScale::new(true);
    assert_eq!(scale.factor(), 65_536.0);
    assert!(scale.overflowed() && scale.overflowed());
    assert_eq!(scale.factor(), 16_384.0);
    (0..1_999).for_each(|_| scale.went_well());
    assert_eq!((scale.factor(), scale.calm()), (16_384.0, 1_999));
    scale.went_well();
    assert_eq!((scale.factor(), scale.calm()), (32_768.0, 0));
    (0..100_000).for_each(|_| scale.went_well());
    assert_eq!(scale.factor(), 65_536.0);
    // From the very bottom too, where another overflow is the gradient's own.
    while scale.overflowed() {}
    assert_eq!(scale.factor(), 1.0);
    (0..2_000).for_each(|_| scale.went_well());
    assert_eq!(scale.factor(), 2.0);
    let mut single = LossScale::new(false);
    (0..5_000).for_each(|_| single.went_well());
    assert!(single.factor() == 1.0 && !single.overflowed());
}

#[test]
fn memory_that_ran_out_is_asked_for_less_until_one_row_is_left() {
    let mut memory = Memory::default();
    assert_eq!((memory.batch(16), memory.limit(16)), (16, 16));
    assert_eq!((memory.batch(1), memory.limit(1)), (1, 4), "an item's few rows keep their graphs");
    let mut tried = 6;
    let mut limits = vec![];
    while let Some(less) = memory.less(tried) {
        memory = less;
        tried = memory.batch(16);
        limits.push((tried, memory.recompute(false)));
    }
    assert_eq!(limits, [(3, false), (1, false), (1, true)]);
}

#[test]
fn the_oldest_items_are_dropped_first() {
    let mut cache = Cache::new(10);
    (0..4).for_each(|index| cache.insert(index, index, 3));
    assert_eq!((0..4).map(|index| cache.get(index).is_some()).collect::<Vec<_>>(), [false, true, true, true]);
    // Replaced, an item is a new one, and its bytes are counted once.
    cache.insert(1, 10, 4);
    cache.insert(4, 4, 3);
    assert_eq!((1..5).map(|index| cache.get(index).copied()).collect::<Vec<_>>(), [Some(10), None, Some(3), Some(4)]);
}

#[test]
fn no_item_of_a_batch_drives_out_another() {
    let mut cache = Cache::new(10);
    (0..3).for_each(|index| cache.insert(index, index, 3));
    // The oldest item is needed, and more than there is room for.
    assert_eq!(cache.ensure(&[0, 5, 6, 0, 7, 5]), [5, 6, 7]);
    [5, 6, 7].into_iter().for_each(|index| cache.insert(index, index, 3));
    assert!([0, 5, 6, 7].iter().all(|&index| cache.get(index).is_some()));
    assert!([1, 2].iter().all(|&index| cache.get(index).is_none()));
    assert_eq!(cache.ensure(&[5, 6, 7]), [0; 0]);
    cache.insert(8, 8, 1);
    assert!(cache.get(0).is_none() && cache.get(8).is_some());
}
