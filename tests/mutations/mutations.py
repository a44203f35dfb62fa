"""Mutations of the package, each of which breaks a promise that some test must hold."""

from dataclasses import dataclass

__all__ = ["MUTATIONS", "Mutation"]


@dataclass(frozen=True)
class Mutation:
    """
    One change of one file.

    :param file: Path from the root of the repository.
    :param old: Text that occurs exactly once in it.
    :param new: What to put in its place.
    :param breaks: What is wrong then.
    :param tests: What to hand to pytest: the tests that must catch it.
    """

    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]


UPDATES = "tests/properties/test_updates.py"
ENDS = "tests/properties/test_episode_ends.py"
NAIVE = (UPDATES, "-k", "equations_on_every_space and naive")
STREAM = (UPDATES, "-k", "equations_on_every_space and stream")
COMPILED_NAIVE = (UPDATES, "-k", "compiled and naive")
COMPILED_STREAM = (UPDATES, "-k", "compiled and stream")
EPISODES = (ENDS, "-k", "those_of_it_alone or if_it_were_the_first")
CONTINUE = ("tests/dqn_plugins/algorithms/test_continue_exactly.py",)
REWARDS = ("tests/wrappers/rewards/test_episode_reward.py",)

AUTOGRAD = "dqn_plugins/learning/autograd/base.py"
NAIVE_AUTOGRAD = "dqn_plugins/learning/autograd/naive.py"
STREAM_AUTOGRAD = "dqn_plugins/learning/autograd/stream.py"
STREAM_COMPILED = "dqn_plugins/learning/compiled/stream.py"
KERNELS = "dqn_plugins/learning/compiled/kernels.py"
LOOP = "dqn_plugins/algorithms/online.py"
TRACE_OPTIMIZERS = "policies/trace_optimizers.py"
NORMALIZATION = "policies/normalization.py"

MUTATIONS = [
    # The target and the gradient, in torch
    Mutation(
        AUTOGRAD,
        "rewards + gamma * next_values - taken_values",
        "rewards + next_values - taken_values",
        "the discount is forgotten",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "next_values[terminated] = 0.0",
        "next_values[dones] = 0.0",
        "a time limit counts as a terminal state",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "if not self.bootstrap_at_terminal:",
        "if self.bootstrap_at_terminal:",
        "terminal states are bootstrapped from",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "self._q_values(next_obs).max(axis=1)",
        "self._q_values(next_obs).mean(axis=1)",
        "the target is that of a random policy",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "target[taken] += self.q_step_size * td_errors",
        "target[taken] += td_errors",
        "the step size of the target is forgotten",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)",
        "clip_grad_norm_(self.policy.parameters(), 2 * self.max_grad_norm)",
        "gradients are clipped too late",
        NAIVE,
    ),
    # Traces and masks, in torch
    Mutation(
        STREAM_AUTOGRAD,
        "next_values[terminated] = 0.0",
        "next_values[dones] = 0.0",
        "a time limit counts as a terminal state",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        'explored[env_index] and rule.trace_cut == "watkins"',
        'rule.trace_cut == "watkins"',
        "every action cuts the trace",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        'if explored[env_index] and rule.trace_cut == "after":',
        'if explored[env_index] and rule.trace_cut == "never":',
        "the trace is cut when it should never be",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "0.0 if cut_before else rule.gamma * rule.trace_decay",
        "0.0 if cut_before else rule.trace_decay",
        "the trace fades by λ instead of γλ",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "            if dones[env_index]:",
        "            if terminated[env_index]:",
        "the trace crosses a time limit",
        EPISODES,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "        for env_index in range(self._n_envs):\n            self._end_episode(env_index)",
        "        pass",
        "the trace crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "self.policy.reward_normalizer.returns[env_index] = 0.0",
        "pass",
        "the discounted return crosses an episode's end",
        EPISODES,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "        self._observe(next_obs)\n",
        "",
        "next observations are missing from the statistics",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "self._observe(_only(new_obs, env_index))",
        "self._observe(new_obs)",
        "observations are counted again when another environment's episode ends",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "clipped = td_errors.clip(-rule.td_error_clip, rule.td_error_clip)",
        "clipped = td_errors",
        "the TD error is not clipped",
        STREAM,
    ),
    # The same in compiled code
    Mutation(
        KERNELS,
        "if bootstrap_at_terminal or not terminated[env]:",
        "if True:",
        "terminal states are bootstrapped from",
        COMPILED_NAIVE,
    ),
    Mutation(
        KERNELS,
        "loss_scale = -2.0 * q_step_size / (n_actions * n_envs)",
        "loss_scale = -2.0 * q_step_size / n_envs",
        "the loss is a sum over the actions",
        COMPILED_NAIVE,
    ),
    Mutation(
        KERNELS,
        "factor = np.float32(max_norm) / (np.sqrt(total) + np.float32(1e-6))",
        "factor = np.float32(max_norm) / (total + np.float32(1e-6))",
        "gradients are clipped by their squared norm",
        COMPILED_NAIVE,
    ),
    Mutation(
        KERNELS,
        "floor = np.float32(eps if keras_form else eps * root_correction)",
        "floor = np.float32(eps)",
        "torch's Adam is Keras's",
        COMPILED_NAIVE,
    ),
    Mutation(
        KERNELS,
        "below[i] *= np.float32(1.0) if before[i] > 0 else slope",
        "below[i] *= np.float32(1.0) if before[i] > 0 else np.float32(0.0)",
        "the leaky rectifier does not leak on the way back",
        COMPILED_NAIVE,
    ),
    Mutation(
        KERNELS,
        "below[i] = scale * (below[i] - mean - before[i] * projection)",
        "below[i] = scale * (below[i] - mean)",
        "the derivative of layer normalisation lacks that of the scale",
        COMPILED_NAIVE,
    ),
    Mutation(
        KERNELS,
        "        if not terminated[env]:",
        "        if not dones[env]:",
        "a time limit counts as a terminal state",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "if dones[env] or (explored and trace_cut == CUT_AFTER):",
        "if explored and trace_cut == CUT_AFTER:",
        "the trace crosses an episode's end",
        EPISODES,
    ),
    Mutation(
        KERNELS,
        "        if explored and trace_cut == CUT_WATKINS:",
        "        if explored and trace_cut == CUT_AFTER:",
        "the trace ends before the exploratory action instead of after it",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "decay = gamma * trace_decay",
        "decay = trace_decay",
        "the trace fades by λ instead of γλ",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "            returns[env] = 0.0\n",
        "",
        "the discounted return crosses an episode's end",
        EPISODES,
    ),
    Mutation(
        KERNELS,
        "if new_obs_begin and obs_mean.size > 0:",
        "if False:",
        "first observations are missing from the statistics",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "squared_deviations[i] += deviation * (elements[i] - mean[i])",
        "squared_deviations[i] += deviation * deviation",
        "the variance is too large",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "step = np.float32(learning_rate / max(bound, 1.0) * td_error / n_envs)",
        "step = np.float32(learning_rate / max(bound, 1.0) * td_error)",
        "ObGD adds the steps of several environments up",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "norm += abs(trace[i] * update[i])",
        "norm += abs(trace[i])",
        "AdaptiveObGD bounds another step than it takes",
        COMPILED_STREAM,
    ),
    Mutation(
        KERNELS,
        "    if not all_finite(new_obs):",
        "    if False:",
        "NaN in a first observation reaches the statistics",
        ("tests/dqn_plugins/algorithms/test_stream_q.py", "-k", "bad_first_observation"),
    ),
    Mutation(
        STREAM_COMPILED,
        "        self.network.traces[:] = 0\n",
        "",
        "the trace crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        STREAM_COMPILED,
        "        self._returns[:] = 0\n",
        "",
        "the discounted return crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        "dqn_plugins/learning/compiled/network.py",
        "return self._seen == self._look()",
        "return True",
        "weights that were loaded are not the ones that are learned",
        (
            "tests/dqn_plugins/learning/test_compiled_learners.py",
            "-k",
            "what_is_loaded_is_learned_from",
        ),
    ),
    # Optimisers
    Mutation(
        TRACE_OPTIMIZERS,
        "            trace.mul_(decay)\n",
        "",
        "traces do not fade",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        'self.state[param]["trace"].abs().flatten(1)',
        'self.state[param]["trace"].flatten(1)',
        "ObGD's bound lets positive and negative entries cancel",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        "gradient = -self._mean_update(param, td_errors)",
        "gradient = self._mean_update(param, td_errors)",
        "TraceAdam climbs away from the target",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        'state["exp_avg_sq"] / (1 - beta2**step)).sqrt() + group["eps"]',
        'state["exp_avg_sq"]).sqrt() + group["eps"]',
        "TraceAdam's second moment is biased",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        "return mean / len(td_errors)",
        "return mean",
        "the updates of several environments are added up",
        STREAM,
    ),
    Mutation(
        "policies/optimizers.py",
        'group["lr"] * (1 - beta2**step) ** 0.5 / (1 - beta1**step)',
        'group["lr"] / (1 - beta1**step)',
        "KerasAdam's second moment is biased",
        NAIVE,
    ),
    # Normalisation
    Mutation(
        NORMALIZATION,
        "return self.squared_deviations / (self.count.item() - 1)",
        "return self.squared_deviations / self.count.item()",
        "the variance is not the sample's",
        STREAM,
    ),
    Mutation(
        NORMALIZATION,
        "self.returns.mul_(gamma).add_(rewards)",
        "self.returns.add_(rewards)",
        "rewards are scaled by undiscounted returns",
        STREAM,
    ),
    Mutation(
        NORMALIZATION,
        "((obs - statistics.mean) / statistics.standard_deviation).float()",
        "((obs - statistics.mean) / statistics.variance).float()",
        "observations are divided by their variance",
        STREAM,
    ),
    Mutation(
        NORMALIZATION,
        "            self.keep_returns_for(len(saved))\n",
        "            pass\n",
        "a model cannot be loaded with another number of environments",
        (
            "tests/dqn_plugins/algorithms/test_stream_q.py",
            "-k",
            "test_a_model_is_loaded_with_another_number_of_environments",
        ),
    ),
    # The average that predicts
    Mutation(
        "policies/stream_policy.py",
        "share = max(5.0 / (self.n_averaged.item() + 4.0), 1.0 / self.averaging_window)",
        "share = 1.0 / self.averaging_window",
        "the first weights stay in the average for long",
        STREAM,
    ),
    Mutation(
        KERNELS,
        "share = np.float32(max(5.0 / (n_averaged[0] + 4.0), 1.0 / averaging_window))",
        "share = np.float32(5.0 / (n_averaged[0] + 4.0))",
        "the average never forgets",
        COMPILED_STREAM,
    ),
    # The loop
    Mutation(
        "dqn_plugins/learning/transition.py",
        'terminated[env_index] = not info.get("TimeLimit.truncated", False)',
        "terminated[env_index] = True",
        "a time limit counts as a terminal state",
        ("tests/properties/test_transitions.py", "-k", "torch"),
    ),
    Mutation(
        "dqn_plugins/learning/transition.py",
        "            _put_last(next_obs, int(env_index), last_obs)\n",
        "            pass\n",
        "a time limit bootstraps from the next episode's first observation",
        ("tests/properties/test_transitions.py", "-k", "torch"),
    ),
    Mutation(
        "dqn_plugins/environments/single_env.py",
        'info["TimeLimit.truncated"] = truncated and not terminated',
        'info["TimeLimit.truncated"] = truncated',
        "a terminal state at the time limit is bootstrapped from",
        ("tests/properties/test_transitions.py", "-k", "torch"),
    ),
    Mutation(
        LOOP,
        "obs = self._last_obs = new_obs",
        "self._last_obs = new_obs",
        "every transition begins with the first observation",
        ("tests/properties/test_transitions.py", "-k", "torch"),
    ),
    Mutation(
        LOOP,
        "resets_env = reset_num_timesteps or self._last_obs is None",
        "resets_env = reset_num_timesteps",
        "the trace goes on in an environment that was set anew",
        EPISODES,
    ),
    Mutation(
        LOOP,
        "        if self._learned_one:\n",
        "        if False:\n",
        "transitions of one's own give credit to the episode of `learn`",
        ("tests/dqn_plugins/algorithms/test_stream_q.py", "-k", "transitions_of_ones_own"),
    ),
    # Saving
    Mutation(
        LOOP,
        "self._exploration_rng, self._predict_rng = generators",
        "self._seed_generators(self.seed)",
        "a loaded model repeats its first random actions",
        CONTINUE,
    ),
    Mutation(
        LOOP,
        'return ["policy", "policy.optimizer"], []',
        'return ["policy"], []',
        "the optimiser's state and the traces are not saved",
        CONTINUE,
    ),
    Mutation(
        NORMALIZATION,
        'self.register_buffer("mean", th.zeros(shape, dtype=th.float64))',
        'self.register_buffer("mean", th.zeros(shape, dtype=th.float64), persistent=False)',
        "the mean of the observations is not saved",
        CONTINUE,
    ),
    # Wrappers
    Mutation(
        "wrappers/rewards/episode.py",
        "            self.discount *= self.gamma\n",
        "            pass\n",
        "the discounted return is not discounted",
        REWARDS,
    ),
    Mutation(
        "wrappers/rewards/episode_statistics.py",
        "if running.length and not running.over:",
        "if running.length:",
        "an episode that is over is booked again as incomplete",
        REWARDS,
    ),
    Mutation(
        "wrappers/rewards/vec_episode_reward.py",
        'truncated = bool(info.get("TimeLimit.truncated", False))',
        "truncated = False",
        "truncated episodes are booked as terminated",
        REWARDS,
    ),
    Mutation(
        "wrappers/rewards/episode_reward.py",
        'info.setdefault("episode", record.info())',
        'info["episode"] = record.info()',
        "what a wrapper closer to the environment wrote is replaced",
        REWARDS,
    ),
    Mutation(
        "wrappers/rewards/episode_log.py",
        "            if not append:\n",
        "            if append:\n",
        "an existing log is thrown away",
        ("tests/wrappers/rewards/test_episode_log.py",),
    ),
    Mutation(
        "wrappers/video/vec_record_video.py",
        "            frames[position] = frame\n",
        "            pass\n",
        "the terminal state is missing from the video",
        ("tests/wrappers/video/test_vec_record_video.py",),
    ),
    Mutation(
        "wrappers/video/vec_record_video.py",
        "if self._recorder.frame_count >= self.video_length:",
        "if self._recorder.frame_count > self.video_length:",
        "a video is one frame too long",
        ("tests/wrappers/video/test_vec_record_video.py",),
    ),
]
