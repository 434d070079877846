/**
 * Loaded before the tests of a run (`--import`): property tests try the same values each time, so that what a change is
 * told by a run is about the change, and a mutant is found each time or never. A release tries others
 * (`HOLDFAST_TEST_SEED=random`, or a number); a test that fails says its seed.
 */
import fc from 'fast-check'

const asked = process.env.HOLDFAST_TEST_SEED ?? '20261121'
if (asked !== 'random') fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(asked) })
