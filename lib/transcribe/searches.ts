/** Which search turns what the network says into text: by the kind of network, the decoder asked for, and hotwords. */
import { CtcBeamSearch } from "../decode/ctc_beam_search.js";
import { CtcBestPathSearch, CtcGreedySearch } from "../decode/ctc_greedy.js";
import type { FrameRows } from "../decode/frame_rows.js";
import { HotwordScorer } from "../decode/hotword_scorer.js";
import { LanguageModelScorer } from "../decode/language_model_scorer.js";
import type { PrefixScorer } from "../decode/prefix_scorer.js";
import { UsmLiteError } from "../errors.js";
import { checkLanguage } from "../models/model_language.js";
import type { SpeechModel } from "../models/model_folder.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { Decoding, Search } from "./decoding.js";
import { scoresTooLarge } from "./frame_scores.js";
import type { ResolvedRecordingOptions, RecognizerOptions } from "./recognizer_options.js";
import { BeamTransducerSearch, GreedyTransducerSearch } from "./transducer_search.js";
import { WindowDecoder } from "./window_decoding.js";
import { WindowSearch } from "./window_search.js";

export class Searches {
  /** Undefined where windows are decoded instead of frames. */
  private readonly tokenizer: Tokenizer | undefined;
  /** Where windows are decoded, which of samples pass through the network and give text. */
  readonly windows: WindowDecoder | undefined;
  private readonly decoder: "greedy" | "beam";
  private languageScorers: readonly PrefixScorer[] | undefined;
  private readonly blankPenalty: number;

  /**
   * @throws UsmLiteError BAD_TOKENIZER when the model has no tokenizer, or one of another size than its vocabulary; INVALID_ARGUMENT for a language
   * or task that the model does not know
   */
  constructor(
    private readonly model: SpeechModel,
    private readonly options: RecognizerOptions,
  ) {
    const { tokenizer, textTokenizer, languageModel, folder, network, frontEnd } = model;
    if (!(tokenizer ?? textTokenizer)) {
      throw new UsmLiteError(
        "BAD_TOKENIZER",
        `model folder ${folder} has no tokenizer.json, nor a vocabulary in another form that is read here, so it cannot give text`,
      );
    }
    if (tokenizer && tokenizer.size !== network.vocabularySize) {
      throw new UsmLiteError(
        "BAD_TOKENIZER",
        `${folder}: tokenizer.json has ${tokenizer.size} tokens but config.json has vocab_size ${network.vocabularySize}`,
      );
    }
    if (network.kind !== "sequence-to-sequence") {
      if (options.task === "translate") {
        throw new UsmLiteError("INVALID_ARGUMENT", `${folder} writes what it hears and does not translate; leave the task out`);
      }
      checkLanguage(model, options.language);
    }
    const windowed = network.kind === "sequence-to-sequence" && textTokenizer;
    this.windows = windowed ? new WindowDecoder(network, frontEnd, textTokenizer, options, model) : undefined;
    this.tokenizer = tokenizer;
    this.decoder = options.decoder ?? (languageModel ? "beam" : "greedy");
    if (this.decoder !== "greedy" && this.decoder !== "beam") {
      throw new UsmLiteError("INVALID_ARGUMENT", `decoder ${JSON.stringify(this.decoder)} is unknown; choose "greedy" or "beam"`);
    }
    const weights = options.languageModelWeights ?? model.languageModelWeights;
    this.blankPenalty = languageModel ? (weights?.blankPenalty ?? 0) : 0;
    if (this.decoder === "beam") this.beamScorers(); // so that the first recording does not wait for them
  }

  /** Tables over all words of the language model, which greedy searches do without. */
  private beamScorers(): readonly PrefixScorer[] {
    const { languageModel, tokenizer, languageModelWeights } = this.model;
    const weights = this.options.languageModelWeights ?? languageModelWeights;
    return (this.languageScorers ??= languageModel && tokenizer ? [new LanguageModelScorer(languageModel, tokenizer, weights)] : []);
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when there are hotwords */
  windowSearch({ hotwords = [], adapter }: ResolvedRecordingOptions): WindowSearch {
    const { secondsPerFrame, textTokenizer, frontEnd } = this.model;
    if (hotwords.length > 0) throw new UsmLiteError("INVALID_ARGUMENT", "this model takes no hotwords (keywords)");
    const { samplingRate, windowSamples = 30 * samplingRate, cutSamples, quietSamples } = frontEnd.config;
    const cut = cutSamples && quietSamples ? { within: cutSamples, quiet: quietSamples } : undefined;
    return new WindowSearch(textTokenizer as TextTokenizer, { samplingRate, windowSamples, secondsPerFrame, cut }, adapter);
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when a hotword has no letters, and for a model that decodes windows */
  search({ hotwords = [], adapter }: ResolvedRecordingOptions): Search {
    const { network, secondsPerFrame, folder } = this.model;
    const { tokenizer } = this;
    if (network.kind === "sequence-to-sequence" || !tokenizer)
      throw new UsmLiteError("INVALID_ARGUMENT", `${folder} writes about windows of audio, not frame by frame; ask for windowSearch()`);
    const times = { secondsPerFrame };
    const greedy = this.decoder === "greedy" && hotwords.length === 0;
    const { beamWidth } = this.options;
    const beam = () => {
      const scorers = hotwords.length === 0 ? this.beamScorers() : [...this.beamScorers(), new HotwordScorer(hotwords, tokenizer)];
      return { scorers, ...(beamWidth === undefined ? {} : { beamWidth }) };
    };
    if (network.kind === "ctc") {
      const { blankPenalty } = this;
      if (this.takesBestPath(hotwords)) return new CtcBestPathSearch(tokenizer, times);
      return greedy ? new CtcGreedySearch(tokenizer, times) : new CtcBeamSearch(tokenizer, times, { ...beam(), blankPenalty });
    }
    if (!greedy) return new BeamTransducerSearch(network, tokenizer, times, beam());
    return new GreedyTransducerSearch(network, tokenizer, times, (what) => scoresTooLarge(what, { adapter, folder }));
  }

  /** Greedy decoding of a CTC network on the GPU needs no more than the best token of each frame. */
  takesBestPath(hotwords: readonly string[]): boolean {
    return this.model.network.kind === "ctc" && this.isGreedyOnGpu(hotwords);
  }

  /** Greedy decoding of a transducer on the GPU takes frames from where the encoder leaves them. */
  decodesOnGpu(hotwords: readonly string[]): boolean {
    return this.model.network.kind === "transducer" && this.isGreedyOnGpu(hotwords);
  }

  private isGreedyOnGpu(hotwords: readonly string[]): boolean {
    return this.model.device === "cuda" && this.decoder === "greedy" && hotwords.length === 0;
  }
}

/** Searches what remains of each recording; all of one kind together. */
export function searchRest(decodings: readonly Decoding[]): void {
  const searches = decodings.map(({ search }) => search);
  const rests = decodings.map((decoding) => decoding.rest());
  const greedy = searches.filter((search) => search instanceof GreedyTransducerSearch);
  const beams = searches.filter((search) => search instanceof CtcBeamSearch);
  try {
    if (greedy.length === searches.length) GreedyTransducerSearch.advanceTogether(greedy, rests);
    else if (beams.length === searches.length) CtcBeamSearch.advanceTogether(beams, rests);
    else searches.forEach((search, index) => search.advance(rests[index] as FrameRows));
  } finally {
    for (const { onGpu } of rests) onGpu?.dispose();
  }
}
