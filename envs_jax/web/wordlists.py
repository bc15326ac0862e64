"""The words that the synthetic catalogue is written with."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, eq=False)
class Department:
    """One of the five departments of the synthetic shop."""

    name: str  # WebShop's `category`
    root: str  # first part of the category path
    share: float  # of all products
    median_price: float  # dollars
    price_spread: float  # standard deviation of the logarithm
    aisles: dict[str, tuple[str, ...]]  # second part of the path to the kinds of thing sold there (singular)
    attributes: tuple[str, ...]
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    option_groups: dict[str, float]  # name and how often, relative to the others
    num_groups: dict[int, float]  # option groups of a product and how often
    instructed: float  # share of products with an instruction
    price_range: float  # share of products whose price is a range


def _lines(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(",") if part.strip())


def _aisles(text: str) -> dict[str, tuple[str, ...]]:
    pairs = (line.split(":") for line in text.strip().splitlines())
    return {name.strip(): _lines(kinds) for name, kinds in pairs}


BEAUTY = Department(
    name="beauty",
    root="Beauty & Personal Care",
    share=0.238,
    median_price=15.0,
    price_spread=0.95,
    aisles=_aisles(
        """
        Hair Care: hair mask, shampoo bar, hair brush, scalp scrub, hair oil, curling wand, hair clip, wig, hair dye
        Skin Care: face cream, night serum, sheet mask, body lotion, cleansing foam, sun lotion, eye patch, lip balm
        Makeup: lipstick, eyeshadow palette, mascara, foundation, makeup brush, false lash, eyebrow pencil
        Oral Care: toothbrush, toothpaste, mouth rinse, whitening strip, tongue scraper, floss pick, retainer case
        Tools & Accessories: nail file, cosmetic bag, facial roller, tweezer, compact mirror, cotton pad, massage gun
        Fragrance: body mist, cologne, scented oil, perfume sampler, roll-on perfume, solid perfume
        Shave & Bath: razor, shaving cream, beard oil, bath bomb, shower sponge, body scrub, soap dish, epilator
        """
    ),
    attributes=_lines(
        """
        sulfate free, paraben free, cruelty free, fragrance free, alcohol free, oil free, dermatologist tested,
        clinically proven, natural ingredients, plant based, argan oil, coconut oil, tea tree, aloe vera, shea butter,
        jojoba oil, hyaluronic acid, vitamin c, green tea, rose water, dry skin, oily skin, sensitive skin, dead skin,
        acne prone, fine lines, dark circles, dry hair, damaged hair, curly hair, fine hair, hair growth, hair loss,
        hair styling, split ends, long lasting, water resistant, high quality, easy apply, easy carry, non toxic, anti
        aging, deep cleansing, quick drying, travel size, double sided, stainless steel, nail art, nail polish, false
        eyelashes, eye shadow, lip gloss, teeth whitening, fresh breath, oral hygiene, tooth enamel, bad breath, hair
        removal, rose gold, storage case, leak proof, bpa free, high pigment, matte finish, light scent, body massage,
        heat protection, color treated, eco friendly, sun protection, barrier repair, pore cleansing, brightening
        care, soothing care
        """
    ),
    materials=_lines("bamboo, silicone, boar bristle, ceramic, jade, microfiber, cotton, glass, acrylic, linen"),
    uses=_lines("daily care, travel, the salon, sensitive skin, the gym bag, the vanity, mornings, evenings, gifts"),
    option_groups={"Color": 0.5, "Size": 0.3, "Style": 0.05, "Scent": 0.1, "Item Package Quantity": 0.05},
    num_groups={0: 157, 1: 70, 2: 11},
    instructed=0.378,
    price_range=0.017,
)

ELECTRONICS = Department(
    name="electronics",
    root="Electronics",
    share=0.229,
    median_price=27.0,
    price_spread=1.85,
    aisles=_aisles(
        """
        Audio: soundbar, bookshelf speaker, turntable, headphone, earbud, studio microphone, subwoofer, amplifier
        Video: projector, projection screen, tv mount, streaming stick, media player, antenna, remote control
        Computers: laptop, desktop computer, monitor arm, mechanical keyboard, wireless mouse, graphics tablet
        Networking: wifi router, range extender, ethernet cable, network switch, mesh node, signal booster
        Phones: phone case, screen protector, car charger, power bank, phone stand, selfie stick, smartwatch band
        Cameras: camera lens, tripod, camera bag, ring light, photo backdrop, memory card, lens filter
        Power: surge protector, battery charger, wall adapter, extension cord, solar panel, battery pack, cable clip
        """
    ),
    attributes=_lines(
        """
        high speed, fast charging, wireless charging, plug play, easy install, easy use, high definition, high
        resolution, noise cancelling, stereo sound, surround sound, hands free, water proof, dust proof, long range,
        dual band, gold plated, aluminum alloy, carbon fiber, usb port, hdmi port, power adapter, intel core, quad
        core, solid state, high performance, energy efficient, light weight, easy carry, carrying case, tempered
        glass, scratch resistant, shock proof, glass screen, wall mounted, ceiling mounted, motion detection, night
        vision, optical zoom, wide angle, remote control, batteries included, output protection, overload protection,
        heat dissipation, compact size, universal fit, heavy duty, quick release, non slip, multi function, voice
        control, low latency, dual driver, blue light, rapid cooling, ultra thin, crystal clear, high contrast, signal
        strength, cable management, touch control, screen protection, case cover, bluetooth connection, digital
        display, single button, backlit keys, silent clicks
        """
    ),
    materials=_lines(
        "aluminum, carbon fiber, tempered glass, braided nylon, silicone, copper, abs plastic, steel, leather"
    ),
    uses=_lines(
        "gaming, the home office, travel, streaming, meetings, the car, the classroom, home theater, outdoor trips"
    ),
    option_groups={"Color": 0.45, "Size": 0.4, "Style": 0.15},
    num_groups={0: 179, 1: 42, 2: 8},
    instructed=0.275,
    price_range=0.004,
)

GARDEN = Department(
    name="garden",
    root="Home & Kitchen",
    share=0.216,
    median_price=82.0,
    price_spread=1.3,
    aisles=_aisles(
        """
        Living Room: console table, coffee table, recliner, sofa, ottoman, tv stand, accent chair, throw pillow
        Bedroom: mattress, bed frame, nightstand, dresser, headboard, duvet cover, bed skirt, wardrobe
        Office: desk, office chair, filing cabinet, bookcase, desk lamp, standing desk, guest chair
        Lighting: pendant light, floor lamp, wall sconce, chandelier, string light, table lamp, vanity light
        Decor: wall mirror, wall art, area rug, curtain panel, window shade, artificial plant, candle, photo frame
        Kitchen & Dining: bar stool, dining table, dining chair, storage rack, spice rack, kitchen island
        Storage: storage basket, shoe rack, coat rack, floating shelf unit, closet organizer, toy chest
        """
    ),
    attributes=_lines(
        """
        easy assemble, assembly required, fully assembled, space saving, easy clean, spot clean, machine washable,
        heavy duty, solid wood, metal legs, metal frame, wood frame, wood finish, faux leather, high density, memory
        foam, lumbar support, height adjustable, mid century, contemporary style, contemporary design, living room,
        dining room, home furnishings, storage space, storage unit, white item, coated steel, powder coated, brushed
        nickel, bronze finish, tempered glass, glass shade, clear glass, light fixture, pendant light, led light,
        energy saving, ready hang, printing technology, double sided, super soft, non slip, stain resistant, fade
        resistant, eco friendly, box spring, queen size, king size, twin size, long lasting, high gloss, hand painted,
        button tufted, open shelf, wall mounted, bedside storage, compact design, corner protection, rustic style,
        farmhouse style, industrial style, thermal insulated, light blocking, soy wax, lead free, wipe clean,
        stackable design, swivel base, padded seat, easy install, easy care, steel frame, pine wood
        """
    ),
    materials=_lines(
        "oak, walnut, pine, rattan, velvet, linen, marble, iron, bamboo, acacia, jute, glass, steel, cotton"
    ),
    uses=_lines(
        "the living room, the bedroom, the patio, the hallway, small flats, the nursery, the kitchen, guest rooms"
    ),
    option_groups={"Color": 0.5, "Size": 0.42, "Style": 0.06, "Item Shape": 0.02},
    num_groups={0: 110, 1: 76, 2: 27, 3: 3},
    instructed=0.481,
    price_range=0.014,
)

FASHION = Department(
    name="fashion",
    root="Clothing, Shoes & Jewelry",
    share=0.2,
    median_price=20.0,
    price_spread=0.85,
    aisles=_aisles(
        """
        Women: women's dress, women's blouse, women's jumpsuit, women's sandal, women's pump, women's cardigan
        Men: men's t-shirt, men's henley, men's polo, men's loafer, men's short, men's hoodie, men's dress shirt
        Activewear: sports bra, running legging, training jacket, yoga pant, track suit, cycling short, running shoe
        Sleepwear: pajama set, nightgown, robe, slipper, lounge pant, sleep shirt
        Outerwear: rain jacket, down coat, windbreaker, denim jacket, fleece vest, trench coat
        Accessories: wrist watch, sunglass case, belt, scarf, beanie, necklace, crossbody bag, wallet
        Swimwear: swim trunk, one piece swimsuit, bikini set, cover up, water shoe
        """
    ),
    attributes=_lines(
        """
        machine wash, hand wash, wash cold, tumble dry, dry clean, long sleeve, short sleeve, sleeveless design, loose
        fit, slim fit, classic fit, relaxed fit, regular fit, straight leg, wide leg, high waist, elastic waist,
        elastic waistband, drawstring closure, button closure, zipper closure, lace closure, rubber sole, rubber
        outsole, memory foam, arch support, non slip, open toe, closed toe, ankle strap, high heel, low heel, faux
        fur, faux leather, genuine leather, vegan leather, soft material, stretch fabric, breathable mesh, moisture
        wicking, quick drying, light weight, fleece lined, winter warm, water resistant, tummy control, butt lifting,
        polyester spandex, cotton blend, heathered cotton, nylon spandex, printed pattern, solid color, contrast
        color, unique design, fashion design, crew neck, round neck, v neck, polo collar, daily wear, everyday wear,
        gym workout, beach day, office wear, evening party, teen girls, stainless steel, day comfort, side pockets,
        hooded design, officially licensed, needle stitched, ribbed cuffs
        """
    ),
    materials=_lines(
        "cotton, linen, denim, fleece, spandex, suede, wool, satin, chiffon, canvas, leather, corduroy, velvet"
    ),
    uses=_lines("work, the beach, evenings out, winter, hiking, the gym, weddings, weekends, school, travel"),
    option_groups={"Color": 0.45, "Size": 0.51, "Fit Type": 0.04},
    num_groups={0: 43, 1: 35, 2: 112, 3: 10},
    instructed=0.645,
    price_range=0.425,
)

GROCERY = Department(
    name="grocery",
    root="Grocery & Gourmet Food",
    share=0.117,
    median_price=24.0,
    price_spread=0.75,
    aisles=_aisles(
        """
        Snacks: granola bar, trail mix, potato chip, popcorn, rice cracker, fruit snack, jerky, roasted nut, pretzel
        Beverages: black tea, herbal tea, ground coffee, sparkling water, energy drink, protein shake, cocoa mix
        Pantry: pasta sauce, olive oil, baking mix, spice blend, canned bean, nut butter, hot sauce, rice noodle
        Sweets: dark chocolate, gummy candy, cookie, hard candy, cake topper, caramel, marshmallow
        Breakfast: oatmeal, breakfast cereal, pancake mix, maple syrup, fruit jam, dried fruit
        Fresh & Frozen: cheese wheel, smoked salmon, veggie burger, sausage, frozen dumpling, gift basket
        """
    ),
    attributes=_lines(
        """
        gluten free, dairy free, nut free, soy free, sugar free, fat free, caffeine free, grain free, low carb, low
        sugar, low sodium, low calorie, high protein, high fiber, dietary fiber, plant based, non gmo, certified
        organic, usda organic, kosher certified, keto friendly, paleo friendly, natural flavors, natural ingredients,
        simple ingredients, artificial colors, artificial flavors, individually wrapped, resealable bag, ready eat,
        ready serve, easy prepare, fully cooked, shelf stable, freeze dried, hand crafted, small batch, old fashioned,
        rich aroma, perfect gift, gift set, valentine day, birthday party, baby shower, protein serving, great taste,
        quality ingredients, real fruit, cane sugar, sea salt, dark roast, medium roast, single origin, loose leaf,
        stone ground, cold pressed, wild caught, grass fed, lactose free, trans fat, bulk pack, trail snack, source
        vitamin, source calcium
        """
    ),
    materials=_lines("almond, oat, maple, cinnamon, ginger, cacao, vanilla, chili, lemon, sesame, quinoa, honey"),
    uses=_lines("lunch boxes, road trips, baking, breakfast, parties, the office, hikes, gift baskets, movie nights"),
    option_groups={"Flavor Name": 0.45, "Size": 0.45, "Style": 0.1},
    num_groups={0: 88, 1: 22, 2: 7},
    instructed=0.248,
    price_range=0.0,
)

DEPARTMENTS = (BEAUTY, ELECTRONICS, GARDEN, FASHION, GROCERY)

ADJECTIVES = _lines(
    """
    premium, classic, modern, compact, portable, professional, elegant, vintage, luxury, durable, stylish, cozy,
    everyday, handmade, essential, deluxe, original, improved, seasonal, minimalist, adjustable, foldable, reusable,
    decorative
    """
)
BENEFITS = _lines(
    """
    made to last for years, designed with comfort in mind, tested by our own team before it ships, a thoughtful gift
    for family and friends, simple to set up in a few minutes, packed with care in recyclable paper, loved by
    customers all over the country, backed by a friendly support team, shaped for people who want less clutter,
    finished by hand in small series, sized so that it fits almost anywhere, ready to use right out of the box,
    balanced between price and quality, easy to keep in good condition, chosen by professionals and beginners alike,
    calm in look and strong in use
    """
)
SYLLABLES = _lines(
    "ar, bel, cor, dan, el, fen, gal, hol, iv, jor, kel, lum, mar, nor, ol, pel, quin, ros, sol, tav, ul, ven, wil, zan"
)
COLORS = _lines(
    """
    black, white, grey, navy, blue, red, pink, green, beige, brown, khaki, yellow, purple, wine red, army green, navy
    blue, light blue, dark grey, rose gold, silver, gold, royal blue, sky blue, burgundy, teal, orange, ivory,
    charcoal, coffee, multicolor, black white, hot pink, olive, mint green, lavender, coral, champagne, natural,
    turquoise, peach, plum, rust, mustard, dusty rose, forest green, off white, slate blue, cream, copper, emerald
    """
)
CLOTHING_SIZES = _lines("x-small, small, medium, large, x-large, xx-large, 3x-large, 4x-large, 5x-large, one size")
STYLES = _lines(
    "basic, set, deluxe kit, classic, modern, with case, without case, left, right, round, standard, upgraded"
)
SCENTS = _lines(
    "lavender, vanilla, fresh linen, eucalyptus mint, citrus, rose, sandalwood, unscented, coconut, woody scent"
)
FLAVORS = _lines(
    """
    vanilla, dark chocolate, peanut butter, strawberry, sea salt, maple pecan, lemon, original, cinnamon, blueberry,
    cherry, hazelnut, caramel, mango, honey almond, spicy chili, apple, coconut, espresso, mint, barbecue, sour cream
    """
)
PIECES = _lines("set, kit, piece, pack, collection, bundle, edition, series, design, choice")
FITS = _lines("men, women, youth")
SHAPES = _lines("rectangular, round, square, oval")
