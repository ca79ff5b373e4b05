"""ENGINE: model processes: how they are launched, watched, replaced and spoken to.

A model becomes a `launch.LaunchPlan`; its `supervisor.EngineSupervisor` feeds what happens to
`lifecycle.step` (pure) and does what that says through `process.EngineEffects`; requests go
through the `client.EngineClient` of the present process. `portfolio.Portfolio`
holds a site's engines and is the one that has them loaded, as `planner.plan` (pure) says.
"""
