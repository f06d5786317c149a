"""The table-top scene as MuJoCo reads it: a hand with two fingers, three blocks, two cameras; primitives only."""

from __future__ import annotations

from typing import Final

COLOURS: Final = ("red", "green", "blue")
_RGBA: Final = ("0.9 0.15 0.15 1", "0.15 0.75 0.2 1", "0.2 0.3 0.95 1")
HAND_HEIGHT: Final = 0.15  # metres; of the hand where its joints are 0
FINGER_OPEN, FINGER_CLOSED = 0.008, -0.025  # metres; what the finger joints are driven to
BLOCK_HEIGHT: Final = 0.02  # metres; of the centre of a block that lies

_BLOCK: Final = """
    <body name="{colour}" pos="0 {y} .02"><freejoint/>
      <geom type="box" size=".018 .018 .02" mass=".05" rgba="{rgba}" friction="1 .02 .001" priority="1"
        condim="4"/>
    </body>"""
_FINGER: Final = """
      <body name="{name}" pos="0 {y} 0" gravcomp="1">
        <joint name="{name}" type="slide" axis="0 {out} 0" range="-.03 .01"/>
        <geom type="box" size=".008 .005 .034" mass=".1" rgba=".1 .1 .1 1" friction="1.5 .05 .001" condim="4"/>
      </body>"""
_SCENE: Final = """<mujoco>
  <option timestep="0.005" integrator="implicitfast" iterations="8" ls_iterations="8" jacobian="dense"/>
  <visual>
    <quality shadowsize="0" offsamples="0"/><headlight ambient=".5 .5 .5" diffuse=".5 .5 .5"/>
  </visual>
  <worldbody>
    <camera name="top" pos="-.02 0 .75" xyaxes="0 1 0 -1 0 0" fovy="38"/>
    <camera name="side" pos=".62 0 .32" xyaxes="0 1 0 -.43 0 .90" fovy="36"/>
    <geom type="box" size=".3 .3 .02" pos="0 0 -.02" rgba=".75 .7 .6 1" friction="1 .02 .001"/>
    <body name="hand" pos="0 0 {height}" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" range="-.25 .25"/>
      <joint name="y" type="slide" axis="0 1 0" range="-.25 .25"/>
      <joint name="z" type="slide" axis="0 0 1" range="-.127 .15"/>
      <joint name="yaw" type="hinge" axis="0 0 1" range="-1.5 1.5"/>
      <geom type="box" size=".012 .045 .012" pos="0 0 .045" mass=".6" rgba=".3 .3 .35 1"/>{fingers}
    </body>{blocks}
  </worldbody>
  <actuator>
    <position joint="x" kp="120" kv="20"/><position joint="y" kp="120" kv="20"/>
    <position joint="z" kp="120" kv="20"/><position joint="yaw" kp="3" kv=".3"/>
    <position joint="left" kp="150" kv="6" forcerange="-6 6"/>
    <position joint="right" kp="150" kv="6" forcerange="-6 6"/>
  </actuator>
</mujoco>"""


def scene() -> str:
    """The scene's XML. ``qpos`` has the hand's x, y, z, yaw, both fingers, and seven numbers of each block."""
    fingers = _FINGER.format(name="left", y=".03", out="1") + _FINGER.format(name="right", y="-.03", out="-1")
    blocks = "".join(
        _BLOCK.format(colour=colour, y=0.1 * n - 0.1, rgba=rgba)
        for n, (colour, rgba) in enumerate(zip(COLOURS, _RGBA, strict=True))
    )
    return _SCENE.format(height=HAND_HEIGHT, fingers=fingers, blocks=blocks)
