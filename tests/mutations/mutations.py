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
COMPILED_IMAGES = (UPDATES, "-k", "compiled and images and naive")
COMPILED_TESTS = "tests/dqn_plugins/learning/test_compiled_learners.py"
NETWORK_TESTS = "tests/dqn_plugins/algorithms/test_network.py"
STREAM_Q = "tests/dqn_plugins/algorithms/test_stream_q.py"
OWN_LOOP_TESTS = "tests/dqn_plugins/algorithms/test_own_loop.py"
EXPLORATION_TESTS = ("tests/dqn_plugins/algorithms/test_exploration.py",)
OVERFLOW = "tests/faults/test_overflow.py"
TRANSITIONS = ("tests/properties/test_transitions.py", "-k", "torch")
BY_HAND = ("tests/dqn_plugins/learning/test_traces.py", "-k", "worked_out_by_hand")
BY_HAND_OPTIMIZERS = ("tests/policies/test_trace_optimizers.py",)
CONTINUE = ("tests/dqn_plugins/algorithms/test_continue_exactly.py",)
LAMBDA_TESTS = ("tests/dqn_plugins/learning/test_lambda_returns.py",)
ROLLOUT_TESTS = ("tests/dqn_plugins/learning/test_rollouts.py",)
PQN_TESTS = ("tests/dqn_plugins/algorithms/test_pqn.py",)
REWARDS = ("tests/wrappers/rewards/test_episode_reward.py",)

AUTOGRAD = "dqn_plugins/learning/autograd/learner.py"
NAIVE_AUTOGRAD = "dqn_plugins/learning/autograd/naive.py"
STREAM_AUTOGRAD = "dqn_plugins/learning/autograd/stream.py"
BINDING = "dqn_plugins/learning/compiled/binding.py"
COMPILATION = "dqn_plugins/learning/compiled/compilation.py"
CONVOLUTION = "dqn_plugins/learning/compiled/convolution.py"
LAYERS = "dqn_plugins/learning/compiled/layers.py"
COMPILED = "dqn_plugins/learning/compiled/learner.py"
NAIVE_COMPILED = "dqn_plugins/learning/compiled/naive.py"
OPTIMIZERS_COMPILED = "dqn_plugins/learning/compiled/optimizers.py"
STREAM_COMPILED = "dqn_plugins/learning/compiled/stream.py"
EXPLORATION = "dqn_plugins/algorithms/exploration.py"
LOOP = "dqn_plugins/algorithms/q_algorithm.py"
OWN_LOOP = "dqn_plugins/algorithms/online.py"
ENVIRONMENTS = "dqn_plugins/environments/stream.py"
LAMBDA_RETURNS = "dqn_plugins/learning/lambda_returns.py"
ROLLOUT = "dqn_plugins/learning/rollout.py"
ROLLOUTS = "dqn_plugins/learning/autograd/rollouts.py"
DESCENT = "dqn_plugins/learning/autograd/descent.py"
BATCHES = "dqn_plugins/learning/compiled/batches.py"
PRODUCTS = "dqn_plugins/learning/compiled/products.py"
STREAM_POLICY = "policies/stream_policy.py"
TRACE_OPTIMIZERS = "policies/trace_optimizers.py"
GRADIENT_SCALED = "policies/gradient_scaled_optimizers.py"
NORMALIZATION = "policies/normalization.py"

MUTATIONS = [
    # The target and the gradient, in torch
    Mutation(
        "dqn_plugins/learning/autograd/values.py",
        "rewards + rule.gamma * next_values - learned",
        "rewards + next_values - learned",
        "the discount is forgotten",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "next_values[transition.terminated[rows]] = 0.0",
        "next_values[transition.dones[rows]] = 0.0",
        "a time limit counts as a terminal state",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "if not rule.bootstrap_at_terminal:",
        "if rule.bootstrap_at_terminal:",
        "terminal states are bootstrapped from",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "q_values(policy, rows_of(transition.next_obs, rows)).max(axis=1)",
        "q_values(policy, rows_of(transition.next_obs, rows)).mean(axis=1)",
        "the target is that of a random policy",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "target[taken] += rule.q_step_size * td_errors",
        "target[taken] += td_errors",
        "the step size of the target is forgotten",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "clip_grad_norm_(policy.parameters(), rule.max_grad_norm)",
        "clip_grad_norm_(policy.parameters(), 2 * rule.max_grad_norm)",
        "gradients are clipped too late",
        NAIVE,
    ),
    Mutation(
        NAIVE_AUTOGRAD,
        "F.mse_loss(values, th.as_tensor(target, device=values.device))",
        "F.mse_loss(values, th.as_tensor(target)) * len(rows) / len(transition.valid)",
        "the mean is over environments instead of transitions",
        NAIVE,
    ),
    Mutation(
        "dqn_plugins/learning/autograd/learner.py",
        'if self.rule.update == "each" else [rows]',
        'if self.rule.update == "mean" else [rows]',
        "several environments' transitions are averaged",
        NAIVE,
    ),
    # Traces and masks, in torch
    Mutation(
        STREAM_AUTOGRAD,
        "next_values[transition.terminated[rows]] = 0.0",
        "next_values[transition.dones[rows]] = 0.0",
        "a time limit counts as a terminal state",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "(1.0 - exploration_rate) * best.astype(np.float64)",
        "best.astype(np.float64)",
        "the best action's value is expected as if ε were 0",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        'if rule.target == "max":',
        'if rule.target != "max":',
        "the two targets are mixed up",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "for env in env_indices[explored].tolist():",
        "for env in env_indices.tolist():",
        "every action cuts the trace",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        'if done or (is_explored and rule.trace_cut == "after"):',
        'if done or (is_explored and rule.trace_cut == "never"):',
        "the trace is cut when it should never be",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "optimizer.accumulate(gradients, rule.gamma * rule.trace_decay",
        "optimizer.accumulate(gradients, rule.trace_decay",
        "the trace fades by λ instead of γλ",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "transition.actions[rows], transition.dones[rows]",
        "transition.actions[rows], transition.terminated[rows]",
        "the trace crosses a time limit",
        EPISODES,
    ),
    Mutation(
        AUTOGRAD,
        "optimizer.clear(env_index)",
        "pass",
        "the trace crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        AUTOGRAD,
        "self._reward_normalizer.returns[env_index] = 0.0",
        "pass",
        "the discounted return crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "q_net.reward_normalizer.returns[env] = 0.0",
        "pass",
        "the discounted return crosses an episode's end",
        EPISODES,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "q_net.observation_normalizer.update(as_tensor(policy, next_obs))",
        "pass",
        "next observations are missing from the statistics",
        STREAM,
    ),
    Mutation(
        AUTOGRAD,
        "self._observe(rows_of(new_obs, np.flatnonzero(begun)))",
        "self._observe(new_obs)",
        "observations are counted again when another environment's episode ends",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "return min(max(td_error, -clip), clip)",
        "return td_error",
        "the TD error is not clipped",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "return td_errors * np.float32(q_net.reward_scale)",
        "return td_errors",
        "TD errors are in the units of scaled rewards",
        STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "buffer.copy_(value)",
        "pass",
        "an update that is refused leaves its mark on the statistics",
        (OVERFLOW, "-k", "huge_rewards"),
    ),
    Mutation(
        AUTOGRAD,
        "np.flatnonzero(transition.valid)",
        "np.arange(self.n_envs)",
        "the naive rule learns from rows that are no transition",
        NAIVE,
    ),
    Mutation(
        AUTOGRAD,
        "np.flatnonzero(transition.valid)",
        "np.arange(self.n_envs)",
        "the stream rule learns from rows that are no transition",
        STREAM,
    ),
    # Convolutions
    Mutation(
        CONVOLUTION,
        "below[start + column * step] += patches[source + column]",
        "below[start + column * step] = patches[source + column]",
        "a pixel that several places look at has the derivative of the last of them",
        COMPILED_IMAGES,
    ),
    Mutation(
        BINDING,
        "return cls(channels, height, width, (1, width * channels, channels))",
        "return cls.in_order(channels, height, width)",
        "images whose channels come last are read as if they came first",
        COMPILED_IMAGES,
    ),
    # The same in compiled code
    Mutation(
        NAIVE_COMPILED,
        "if numbers[BOOTSTRAP_AT_TERMINAL] or not terminated[env]:",
        "if True:",
        "terminal states are bootstrapped from",
        COMPILED_NAIVE,
    ),
    Mutation(
        NAIVE_COMPILED,
        "loss_scale = -2.0 * numbers[Q_STEP_SIZE] / (len(q_values) * n_valid)",
        "loss_scale = -2.0 * numbers[Q_STEP_SIZE] / n_valid",
        "the loss is a sum over the actions",
        COMPILED_NAIVE,
    ),
    Mutation(
        NAIVE_COMPILED,
        "n_valid = valid[start:stop].sum()",
        "n_valid = stop - start",
        "the mean is over environments instead of transitions",
        COMPILED_NAIVE,
    ),
    Mutation(
        NAIVE_COMPILED,
        "        if valid[env]:\n",
        "        if True:\n",
        "the gradient takes in rows that are no transition",
        COMPILED_NAIVE,
    ),
    Mutation(
        NAIVE_COMPILED,
        "factor = np.float32(max_norm) / (np.sqrt(total) + np.float32(1e-6))",
        "factor = np.float32(max_norm) / (total + np.float32(1e-6))",
        "gradients are clipped by their squared norm",
        COMPILED_NAIVE,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "floor = np.float32(eps if optimizer.kind == KERAS_ADAM else eps * root_correction)",
        "floor = np.float32(eps)",
        "torch's Adam is Keras's",
        (
            "tests/dqn_plugins/learning/test_compiled_learners.py",
            "-k",
            "naive_dqn_compiled_equals_autograd",
        ),
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "step_size * gradient / (np.sqrt(second) + floor)",
        "step_size * gradient / np.sqrt(second + floor)",
        "RMSprop adds eps before it takes the root",
        COMPILED_NAIVE,
    ),
    Mutation(
        BINDING,
        'group.get("alpha", 0.0)',
        "0.0",
        "RMSprop forgets all squares but the last",
        COMPILED_NAIVE,
    ),
    Mutation(
        LAYERS,
        "below[i] = above[i] * (np.float32(1.0) if inputs[i] > 0 else factor)",
        "below[i] = above[i] * (np.float32(1.0) if inputs[i] > 0 else np.float32(0.0))",
        "the leaky rectifier does not leak on the way back",
        COMPILED_NAIVE,
    ),
    Mutation(
        LAYERS,
        "below[i] = scale * (above[i] - mean - outputs[i] * projection)",
        "below[i] = scale * (above[i] - mean)",
        "the derivative of layer normalisation lacks that of the scale",
        COMPILED_NAIVE,
    ),
    Mutation(
        STREAM_COMPILED,
        "        if not terminated[env]:",
        "        if not dones[env]:",
        "a time limit counts as a terminal state",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "size = 1 if state.numbers[EACH] else n_envs",
        "size = n_envs",
        "several environments' transitions are averaged",
        COMPILED_STREAM,
    ),
    Mutation(
        NAIVE_COMPILED,
        "size = 1 if state.numbers[EACH] else n_envs",
        "size = 1",
        "no mean is taken over several environments' transitions",
        COMPILED_NAIVE,
    ),
    Mutation(
        STREAM_COMPILED,
        "value = (1.0 - epsilon) * value + epsilon *",
        "value = value + epsilon *",
        "the best action's value is expected as if ε were 0",
        COMPILED_STREAM,
    ),
    Mutation(
        COMPILED,
        "self._numbers[EXPLORATION_RATE] = exploration_rate",
        "pass",
        "the expected value knows no ε",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "if valid[env] and (dones[env] or (state.explored[env] and trace_cut == CUT_AFTER)):",
        "if valid[env] and state.explored[env] and trace_cut == CUT_AFTER:",
        "the trace crosses an episode's end",
        EPISODES,
    ),
    Mutation(
        STREAM_COMPILED,
        "            if state.explored[env] and trace_cut == CUT_WATKINS:",
        "            if state.explored[env] and trace_cut == CUT_AFTER:",
        "the trace ends before the exploratory action instead of after it",
        BY_HAND,
    ),
    Mutation(
        STREAM_COMPILED,
        "decay, kept = gamma * numbers[TRACE_DECAY], 0.0",
        "decay, kept = numbers[TRACE_DECAY], 0.0",
        "the trace fades by λ instead of γλ",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "            state.rewards.returns[first_env_index + env] = 0.0\n",
        "            pass\n",
        "the discounted return crosses an episode's end",
        EPISODES,
    ),
    Mutation(
        STREAM_COMPILED,
        "td_errors[env] *= scale",
        "pass",
        "TD errors are in the units of scaled rewards",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "            restore_statistics(state)\n",
        "",
        "an update that is refused leaves its mark on the statistics",
        (OVERFLOW, "-k", "huge_rewards"),
    ),
    Mutation(
        STREAM_COMPILED,
        "n_valid = valid[start:stop].sum()",
        "n_valid = stop - start",
        "the mean is over environments instead of transitions",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "        state.clipped_td_errors[env] = 0\n",
        "",
        "a row that is no transition repeats the last step along its trace",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "if valid[env]:\n            sample = sample_in(state.samples[env - start])\n            i",
        "if True:\n            sample = sample_in(state.samples[env - start])\n            i",
        "the trace fades in a row that is no transition",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "        if valid[env]:\n            observe_one(",
        "        if True:\n            observe_one(",
        "the statistics take in rows that are no transition",
        COMPILED_STREAM,
    ),
    # The scale of rewards, and the size of TD errors
    Mutation(
        NORMALIZATION,
        "return min(self.reward_statistics.mean.item(), 0.0) ** 2",
        "return self.reward_statistics.mean.item() ** 2",
        "constant gains are scaled as costs are",
        ("tests/policies/test_normalization.py", "-k", "by_hand"),
    ),
    Mutation(
        "dqn_plugins/learning/compiled/rewards.py",
        "min(rewards.reward_mean[0], 0.0) ** 2",
        "rewards.reward_mean[0] ** 2",
        "constant gains are scaled as costs are",
        COMPILED_STREAM,
    ),
    Mutation(
        "dqn_plugins/learning/compiled/rewards.py",
        "rewards.returns[env] = gamma * rewards.returns[env] + reward",
        "rewards.returns[0] = gamma * rewards.returns[0] + reward",
        "all environments share a discounted return",
        COMPILED_STREAM,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "    policy.td_errors.update(td_error)\n",
        "",
        "the mean square of the TD errors stays what it was",
        STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "    weight[0] = MEAN_SQUARE_DECAY * weight[0] + 1.0\n",
        "    weight[0] = weight[0] + 1.0\n",
        "earlier TD errors weigh too much",
        COMPILED_STREAM,
    ),
    # Environments that take turns, and those that reset in a step of their own
    Mutation(
        STREAM_COMPILED,
        "state.traces[first_env_index:]",
        "state.traces",
        "a turn's traces are those of the first environments",
        (ENDS, "-k", "take_turns"),
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "env_indices = transition.first_env_index + rows",
        "env_indices = rows",
        "a turn's traces are those of the first environments",
        (ENDS, "-k", "take_turns"),
    ),
    Mutation(
        "dqn_plugins/environments/gymnasium_vec_env.py",
        "self.valid, self.begun = ~self._ended, self._ended",
        "self.begun = self._ended",
        "the step that resets is learned from",
        TRANSITIONS,
    ),
    Mutation(
        "dqn_plugins/environments/gymnasium_vec_env.py",
        'last_obs = info["final_obs"]',
        "pass",
        "a time limit bootstraps from the first observation of the next episode",
        TRANSITIONS,
    ),
    Mutation(
        "dqn_plugins/environments/turns.py",
        "self._turn = (self._turn + 1) % len(self.groups)",
        "pass",
        "all but one group of environments never step",
        ("tests/dqn_plugins/environments/test_envpool.py", "-k", "under_way or together"),
    ),
    # Exploration
    Mutation(
        EXPLORATION,
        "                self.held.steps[env_index] = 0\n",
        "                pass\n",
        "an action is held beyond its episode",
        EXPLORATION_TESTS,
    ),
    Mutation(
        EXPLORATION,
        "self.rng.random() >= stuck",
        "self.rng.random() < stuck",
        "actions are held where the agent is not stuck",
        EXPLORATION_TESTS,
    ),
    Mutation(
        EXPLORATION,
        "self.last.count((self.worst, self.longest)) +",
        "self.last.count(min(self.last or [0])) +",
        "an agent that has arrived counts as stuck",
        EXPLORATION_TESTS,
    ),
    Mutation(
        EXPLORATION,
        "self.last.count((self.worst, self.longest)) +",
        "self.last.count((self.worst, self.last[-1][1] if self.last else 0)) +",
        "an agent that fails early counts as stuck",
        EXPLORATION_TESTS,
    ),
    Mutation(
        COMPILED,
        "observe(self._network, as_rows(new_obs)[begun])",
        "pass",
        "first observations are missing from the statistics",
        COMPILED_STREAM,
    ),
    Mutation(
        "dqn_plugins/learning/compiled/statistics.py",
        "squared_deviations[i] += deviation * (elements[i] - mean[i])",
        "squared_deviations[i] += deviation * deviation",
        "the variance is too large",
        COMPILED_STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "weights[i] += step * direction[i]",
        "weights[i] += step * direction[i] * np.float32(n)",
        "ObGD adds the steps of several environments up",
        COMPILED_STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "largest = flushed(max(decay * exp_inf[i], abs(gradient)))",
        "largest = flushed(decay * exp_inf[i] + abs(gradient))",
        "MaxScaledOptimizer adds up what it should take the largest of",
        COMPILED_STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "kept_share, share = np.float32(kept), np.float32(1.0 / n)",
        "kept_share, share = np.float32(0.0), np.float32(1.0)",
        "of several environments' gradients the last one counts",
        COMPILED_STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "step = optimizer.numbers, optimizer.update, optimizer.steps[0] + 1.0",
        "step = optimizer.numbers, optimizer.update, optimizer.steps[0] + 2.0",
        "IntentionalOptimizer corrects as if it had taken one more step",
        COMPILED_STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "numbers[0] * gradient / (np.sqrt(exp_avg_sq[i]) + numbers[1])",
        "numbers[0] * gradient / np.sqrt(exp_avg_sq[i] + numbers[1])",
        "AdaptiveQOptimizer adds eps before it takes the root",
        COMPILED_STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "norm += abs(direction[i] * scales[i])",
        "norm += abs(direction[i])",
        "AdaptiveObGD bounds another step than it takes",
        COMPILED_STREAM,
    ),
    Mutation(
        COMPILED,
        "raise_if_not_finite(new_obs, rewards, new_obs, first)",
        "pass",
        "NaN in a first observation reaches the statistics",
        ("tests/dqn_plugins/algorithms/test_bad_input.py", "-k", "bad_first_observation"),
    ),
    Mutation(
        COMPILED,
        "        self._binding.traces[:] = 0\n",
        "",
        "the trace crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        COMPILED,
        "        self._binding.returns[:] = 0\n",
        "",
        "the discounted return crosses a reset from outside",
        EPISODES,
    ),
    Mutation(
        BINDING,
        "        if self._is_stale or self.policy.optimizer is not self._optimizer:\n",
        "        return True\n        if False:\n",
        "weights that were loaded are not the ones that are learned",
        (NETWORK_TESTS, "-k", "put_in_from_outside"),
    ),
    Mutation(
        BINDING,
        "binding._is_stale = True",
        "pass",
        "an optimiser's state that a callback loaded is not the one in use",
        (NETWORK_TESTS, "-k", "what_a_callback_puts_in_place"),
    ),
    Mutation(
        COMPILATION,
        'SOURCES = f"sources_{_digest_of_sources()}"',
        'SOURCES = "sources"',
        "what is on disk is used although its sources have changed",
        ("tests/dqn_plugins/learning/test_compilation.py", "-k", "made_anew"),
    ),
    # Limits
    Mutation(
        "dqn_plugins/learning/limits.py",
        'if not SMALLEST_EPS <= eps < float("inf"):',
        "if False:",
        "an eps of 0 is learned with",
        (OVERFLOW, "-k", "would_overflow or eps_too_small"),
    ),
    # Optimisers
    Mutation(
        TRACE_OPTIMIZERS,
        "[env_index].mul_(decay).add_(part)",
        "[env_index].add_(part)",
        "traces do not fade",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        "self._traces(param, env_indices).abs().flatten(1)",
        "self._traces(param, env_indices).flatten(1)",
        "ObGD's bound lets positive and negative entries cancel",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        "gradient = -self._mean_update(param, td_errors, env_indices)",
        "gradient = self._mean_update(param, td_errors, env_indices)",
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
        TRACE_OPTIMIZERS,
        "return mean / len(td_errors)",
        'return mean / len(self.state[param]["trace"])',
        "the mean is over environments instead of transitions",
        STREAM,
    ),
    Mutation(
        TRACE_OPTIMIZERS,
        "th.maximum(largest, update.abs(), out=largest)",
        "th.maximum(largest, update, out=largest)",
        "MaxScaledOptimizer divides by the largest rise, not by the largest size",
        BY_HAND_OPTIMIZERS,
    ),
    Mutation(
        GRADIENT_SCALED,
        "th.stack(parts).square().mean(dim=0)",
        "th.stack(parts).mean(dim=0).square()",
        "gradients of several environments cancel before they are squared",
        BY_HAND_OPTIMIZERS,
    ),
    Mutation(
        GRADIENT_SCALED,
        "mul_(decay).add_(squares, alpha=1 - decay)",
        "mul_(0.999).add_(squares, alpha=1 - 0.999)",
        "AdaptiveQOptimizer's mean square does not fade as the trace does",
        BY_HAND_OPTIMIZERS,
    ),
    Mutation(
        GRADIENT_SCALED,
        "(1 - decay) / (1 - decay**step) if decay < 1.0 else 1.0 / step",
        "1 - decay",
        "IntentionalOptimizer's mean norm is biased, and nothing where γλ is 1",
        BY_HAND_OPTIMIZERS,
    ),
    Mutation(
        GRADIENT_SCALED,
        "(self._traces(param, env_indices).square() * scale)",
        "self._traces(param, env_indices).square()",
        "IntentionalOptimizer's step size is that of another norm than zᵀDz",
        BY_HAND_OPTIMIZERS,
    ),
    Mutation(
        STREAM_AUTOGRAD,
        "            optimizer.clear(env)\n    optimizer.accumulate",
        "            pass\n    optimizer.accumulate",
        "an exploratory action does not cut the trace before it",
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
        "self.returns[env_indices] * gamma + rewards",
        "self.returns[env_indices] + rewards",
        "rewards are scaled by undiscounted returns",
        STREAM,
    ),
    Mutation(
        "dqn_plugins/learning/autograd/values.py",
        "advantage_gap * (values - taken_values)",
        "advantage_gap * (next_values - taken_values)",
        "the advantage is taken in the next state",
        STREAM,
    ),
    Mutation(
        STREAM_COMPILED,
        "gap = value_of(q_values, numbers) - taken",
        "gap = q_values[best_action(q_values)] - taken",
        "the advantage is over the best action with an expected value, too",
        COMPILED_STREAM,
    ),
    Mutation(
        LAYERS,
        "outputs[n * N_BUMPS + i] = share * inputs[i]",
        "outputs[n * N_BUMPS + i] = inputs[i]",
        "the linear part counts where steps do not cost the same, too",
        COMPILED_STREAM,
    ),
    Mutation(
        "policies/local_values.py",
        "share * th.cat",
        "th.cat",
        "local values count where steps do not cost the same, too",
        ("tests/policies/test_local_values.py",),
    ),
    Mutation(
        NORMALIZATION,
        "- mean) / deviation)",
        "- mean) / deviation**2)",
        "observations are divided by their variance",
        STREAM,
    ),
    Mutation(
        NORMALIZATION,
        "            self.keep_returns_for(len(saved))\n",
        "            pass\n",
        "a model cannot be loaded with another number of environments",
        ("tests/dqn_plugins/algorithms/test_continue_exactly.py", "-k", "number_of_environments"),
    ),
    Mutation(
        STREAM_POLICY,
        "return self.learned_values(obs) * self.reward_scale",
        "return self.learned_values(obs)",
        "action values are in the units of scaled rewards",
        (STREAM_Q, "-k", "test_action_values_are_in_the_units_of_the_rewards"),
    ),
    # The average that predicts
    Mutation(
        STREAM_POLICY,
        "max(5.0 / (t + 4.0), n_transitions / self.averaging_window)",
        "n_transitions / self.averaging_window",
        "the first weights stay in the average for long",
        STREAM,
    ),
    Mutation(
        OPTIMIZERS_COMPILED,
        "max(5.0 / (t + 4.0), n / average.window)",
        "5.0 / (t + 4.0)",
        "the average never forgets",
        COMPILED_STREAM,
    ),
    # The loop
    Mutation(
        ENVIRONMENTS,
        'terminated[env_index] = not info.get("TimeLimit.truncated", False)',
        "terminated[env_index] = True",
        "a time limit counts as a terminal state",
        TRANSITIONS,
    ),
    Mutation(
        ENVIRONMENTS,
        "            _put_last(next_obs, int(env_index), last_obs)\n",
        "            pass\n",
        "a time limit bootstraps from the next episode's first observation",
        TRANSITIONS,
    ),
    Mutation(
        "dqn_plugins/environments/single_env.py",
        'info["TimeLimit.truncated"] = truncated and not terminated',
        'info["TimeLimit.truncated"] = truncated',
        "a terminal state at the time limit is bootstrapped from",
        TRANSITIONS,
    ),
    Mutation(
        "dqn_plugins/environments/making.py",
        "gym.Wrapper.__init__(self, env)",
        "gym.Wrapper.__init__(self, env)\n        env.unwrapped.render_mode = RENDER_MODE",
        "an environment draws before anybody asks for a picture",
        ("tests/dqn_plugins/environments/test_making.py", "-k", "nothing_is_prepared_for_pictures"),
    ),
    Mutation(
        LOOP,
        "obs = self._last_obs = stream.to_act_on(transition.new_obs)",
        "self._last_obs = transition.new_obs",
        "every transition begins with the first observation",
        TRANSITIONS,
    ),
    Mutation(
        LOOP,
        "resets_env = reset_num_timesteps or self._last_obs is None",
        "resets_env = reset_num_timesteps",
        "the trace goes on in an environment that was set anew",
        EPISODES,
    ),
    # Loops of one's own
    Mutation(
        OWN_LOOP,
        "            self._learner.forget()\n",
        "",
        "transitions of one's own give credit to the episode of `learn`",
        (STREAM_Q, "-k", "transitions_of_ones_own"),
    ),
    Mutation(
        OWN_LOOP,
        "        if self._learned_one:\n            self._forget_own_episode()\n",
        "",
        "transitions learned in a callback give credit to the episode of `learn`",
        (STREAM_Q, "-k", "learn_one_in_a_callback"),
    ),
    Mutation(
        OWN_LOOP,
        "        if self._own_episode_is_over:\n            self._begin_own_episode(batch)\n",
        "",
        "`act` begins no episode",
        (OWN_LOOP_TESTS, "-k", "test_a_loop_of_ones_own_learns_what_learn_learns"),
    ),
    Mutation(
        OWN_LOOP,
        "int(choose(batch)[0])",
        "int(self.predict(batch)[0][0])",
        "`act` acts as `predict` does",
        (OWN_LOOP_TESTS, "-k", "test_a_loop_of_ones_own_learns_what_learn_learns"),
    ),
    Mutation(
        LOOP,
        "greedy = self._learner.greedy_actions(obs)",
        "greedy = np.array(self.policy.predict(obs, deterministic=True)[0])",
        "while learning, actions are those of the average of the weights",
        (OWN_LOOP_TESTS, "-k", "newest_weights"),
    ),
    # Saving
    Mutation(
        LOOP,
        "elif self._explorer.seed != self.seed:",
        "else:",
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
        "wrappers/rewards/episode_statistics.py",
        "if not is_told(info, key):",
        "if True:",
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
        "wrappers/video/recording.py",
        "if self._recorder.frame_count >= self.video_length:",
        "if self._recorder.frame_count > self.video_length:",
        "a video is one frame too long",
        ("tests/wrappers/video/test_vec_record_video.py",),
    ),
    Mutation(
        LAMBDA_RETURNS,
        "(~dones).to",
        "(~terminated).to",
        "returns come back over a time limit",
        LAMBDA_TESTS,
    ),
    Mutation(
        LAMBDA_RETURNS,
        "weights[-1] = 0.0",
        "weights[0] = 0.0",
        "the last step of a rollout bootstraps from a part of its next value",
        LAMBDA_TESTS,
    ),
    Mutation(
        ROLLOUTS,
        "if rollout.last_obs:",
        "if not rollout.last_obs:",
        "a time limit within a rollout bootstraps from the next episode",
        ROLLOUT_TESTS,
    ),
    Mutation(
        ROLLOUTS,
        'np.flatnonzero(rollout.array("valid"))',
        "np.arange(n)",
        "rows that are no transition are learned from",
        ROLLOUT_TESTS,
    ),
    Mutation(
        ROLLOUT,
        "else self.length + 2",
        "else self.length",
        "a model file lacks the step that some environments are ahead",
        ROLLOUT_TESTS,
    ),
    Mutation(
        DESCENT,
        "norm > max_grad_norm",
        "norm < max_grad_norm",
        "small gradients are clipped and large ones are not",
        ROLLOUT_TESTS,
    ),
    Mutation(
        DESCENT,
        "each.copy_(before)\n            if",
        "pass\n            if",
        "weights stay changed when a rollout overflows",
        ROLLOUT_TESTS,
    ),
    Mutation(
        PRODUCTS,
        "    if row < n_rows:\n",
        "    if row < 0:\n",
        "the last of an odd number of rows is left out of a product",
        ROLLOUT_TESTS,
    ),
    Mutation(
        PRODUCTS,
        "            beside = at + row_step\n",
        "            beside = at\n",
        "two rows of a product are the same",
        ROLLOUT_TESTS,
    ),
    Mutation(
        BATCHES,
        "- kept[unit] * mean_along",
        "",
        "the gradient through layer normalisation lacks a term",
        ROLLOUT_TESTS,
    ),
    Mutation(
        "dqn_plugins/algorithms/pqn.py",
        "or not self._rollout.is_empty",
        "",
        "the last steps of a training are not learned from",
        PQN_TESTS,
    ),
]
