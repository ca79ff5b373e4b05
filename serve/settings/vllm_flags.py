"""The flags of the vLLM that is installed with Inhouse, without those that a site may not set.

A list, because vLLM takes ten seconds to say what it knows, and a site file is checked on machines
that do not have it. A test compares the two.
"""

from typing import Final

VERSION: Final = "0.32.0"
"""The release that the lists are of."""

_VALUES: Final = """
    additional-config all2all-backend anthropic-disabled-thinking-effort attention-backend
    attention-config block-size chat-template-content-format compilation-config
    cp-kv-cache-interleave-size cpu-distributed-timeout-seconds cpu-offload-gb
    cpu-offload-params cudagraph-capture-sizes custom-histogram-buckets
    dbo-decode-token-threshold dbo-prefill-token-threshold dcp-comm-backend
    dcp-kv-cache-interleave-size decode-context-parallel-size default-chat-template-kwargs
    diffusion-config distributed-timeout-seconds dp-sync-interval elastic-ep-max-dp-size
    eplb-config expert-placement-strategy gdn-prefill-backend hf-overrides ir-op-priority
    jit-monitor-mode kda-decode-backend kda-prefill-backend kernel-config kv-cache-dtype
    kv-cache-dtype-skip-layers kv-cache-memory-bytes kv-cache-metrics-sample kv-offloading-size
    limit-mm-per-prompt linear-backend logprobs-mode long-prefill-token-threshold lora-dtype
    lora-target-modules mamba-backend mamba-block-size mamba-cache-dtype mamba-cache-mode
    mamba-cache-philox-rounds mamba-ssm-cache-dtype mamba-ssu-algorithm max-cpu-loras
    max-cudagraph-capture-size max-lora-cls-labels max-num-active-seqs max-num-batched-tokens
    max-num-scheduled-tokens max-parallel-loading-workers mm-encoder-attn-backend
    mm-encoder-attn-dtype mm-encoder-tp-mode mm-hasher-algorithm mm-ipc-gpu-memory-gb
    mm-processor-cache-gb mm-processor-cache-type mm-processor-device mm-processor-kwargs
    mm-shm-cache-max-object-size-mb mm-tensor-ipc model-impl moe-backend num-gpu-blocks-override
    numa-bind-cpus numa-bind-nodes offload-backend offload-group-size offload-num-in-group
    offload-params offload-prefetch-step optimization-level per-request-spec-decode-metrics
    performance-mode pooler-config prefill-context-parallel-size prefill-schedule-interval
    prefix-cache-retention-interval prefix-caching-hash-algo prefix-match-unit
    pt-load-map-location quantization-config reasoning-config renderer-num-workers
    replayssm-buffer-len safetensors-load-strategy safetensors-prefetch-block-size
    safetensors-prefetch-num-threads scheduling-policy seed show-hidden-metrics-for-version
    sleep-preserve-parameter-names sparse-indexer-topk-backend stream-interval
    structured-outputs-config tool-strict-level ubatch-size video-pruning-method
    video-pruning-rate watermark watermark-config
"""
_SWITCHES: Final = """
    async-scheduling cudagraph-metrics dcp-q-replicate disable-cascade-attn
    disable-chunked-mm-input disable-custom-all-reduce disable-hybrid-kv-cache-manager
    disable-nccl-for-dp-synchronization disable-sliding-window enable-batch-sharded-sampling
    enable-chunked-prefill enable-cumem-allocator enable-dbo enable-ep-weight-filter enable-eplb
    enable-expert-parallel enable-flash-late-interaction enable-flashinfer-autotune enable-hc-sp
    enable-layerwise-nvtx-tracing enable-logging-iteration-details
    enable-mamba-cache-stochastic-rounding enable-mamba-shared-prefix-checkpoint
    enable-mfu-metrics enable-mixed-moe-lora-format enable-moe-shared-loras
    enable-nccl-comm-suspend enable-prefix-caching enable-shm-tensor-arena
    enable-tower-connector-lora enforce-eager exclude-tools-when-tool-choice-none
    fully-sharded-loras interleave-mm-strings jit-monitor-verbose kv-cache-metrics
    kv-sharing-fast-prefill language-model-only long-prefill-token-threshold-adaptive
    mm-device-do-normalize mm-encoder-only numa-bind ray-workers-use-nsight
    scheduler-reserve-full-isl skip-mm-profiling sleep-mode-offload-cudagraph
    specialize-active-lora swa-bounded-replay use-fp64-gumbel use-replayssm use-tqdm-on-load
"""
"""Each has an opposite, `no-…`."""

KNOWN: Final = frozenset(_VALUES.split()) | {
    flag for name in _SWITCHES.split() for flag in (name, f"no-{name}")
}
