"""Labels and colours of a synthetic scene: red, green, blue and near infrared, 0..255."""

from __future__ import annotations

BUILDING, PERVIOUS, IMPERVIOUS, SOIL, WATER, CONIFER, DECIDUOUS, BRUSH = range(1, 9)
VINEYARD, GRASS, CROP, PLOWED, POOL = range(9, 14)
GREENHOUSE = 18

ASPHALT, PAVING = (134, 131, 129, 96), (182, 172, 158, 128)
GRAVEL, SAND = (190, 174, 146, 134), (214, 200, 168, 152)
RIVER, BASIN = (66, 88, 86, 24), (92, 188, 204, 44)
GLASS, MARKING = (206, 216, 220, 176), (222, 222, 222, 222)
BANK, UNDERGROWTH = (112, 138, 82, 164), (92, 108, 70, 140)
HEDGE, VINE = (76, 102, 58, 148), (80, 110, 54, 150)
LAWNS = ((110, 138, 80, 166), (122, 142, 88, 158), (138, 146, 98, 150), (100, 130, 74, 170))
LEAVES = ((72, 98, 54, 160), (84, 106, 56, 166), (64, 90, 56, 152), (96, 108, 58, 158))
NEEDLES = ((44, 68, 52, 100), (50, 74, 54, 106))
CLAY = ((180, 104, 80, 122), (166, 92, 74, 114), (186, 124, 96, 130), (146, 94, 80, 104))
ROOFS = (*CLAY, (104, 106, 116, 82), (198, 188, 176, 140))
CARS = ((206, 206, 208, 150), (60, 62, 70, 50), (168, 52, 48, 90), (58, 84, 138, 70))
